"""Task events as a Chrome trace."""

import json

from ray._timeline import chrome_trace, write_trace


def boxes(trace):
    return [entry for entry in trace if entry["ph"] == "X"]


def test_an_event_becomes_a_box():
    (box,) = boxes(chrome_trace([("f", "task", 7, 1000, 1500, "ab", True)]))
    assert box["name"] == "f"
    assert box["cat"] == "task"
    assert (box["pid"], box["tid"], box["ts"], box["dur"]) == (7, 0, 1000, 500)
    assert box["args"] == {"task_id": "ab", "ok": True}


def test_processes_and_rows_have_titles():
    trace = chrome_trace([("f", "task", 7, 0, 10, "ab", True), ("f", "task", 8, 5, 6, "cd", True)], node="10.0.0.1")
    titles = [entry for entry in trace if entry["ph"] == "M"]
    names = [(entry["name"], entry["pid"], entry["args"]["name"]) for entry in titles]
    assert ("process_name", 7, "10.0.0.1: worker 7") in names
    assert ("thread_name", 8, "tasks") in names


def test_what_overlaps_in_a_process_gets_a_row_of_its_own():
    events = [
        ("a", "actor_task", 7, 0, 100, "01", True),
        ("b", "actor_task", 7, 50, 150, "02", True),
        ("c", "actor_task", 7, 100, 200, "03", True),
        ("d", "actor_task", 8, 50, 60, "04", True),
    ]
    rows = {box["name"]: (box["pid"], box["tid"]) for box in boxes(chrome_trace(events))}
    assert rows == {"a": (7, 0), "b": (7, 1), "c": (7, 0), "d": (8, 0)}


def test_boxes_are_in_the_order_of_their_start_and_failures_stand_out():
    trace = boxes(chrome_trace([("b", "task", 1, 20, 30, "02", False), ("a", "task", 1, 10, 15, "01", True)]))
    assert [box["name"] for box in trace] == ["a", "b"]
    assert trace[0]["cname"] != trace[1]["cname"]
    assert trace[1]["args"]["ok"] is False


def test_a_clock_that_was_set_back_gives_no_negative_length():
    (box,) = boxes(chrome_trace([("a", "task", 1, 20, 10, "01", True)]))
    assert box["dur"] == 0


def test_the_file_is_a_json_array(tmp_path):
    path = tmp_path / "trace.json"
    trace = chrome_trace([("f", "task", 7, 1000, 1500, "ab", True)])
    write_trace(trace, str(path))
    assert json.loads(path.read_text()) == trace


def test_no_events_make_an_empty_trace():
    assert chrome_trace([]) == []

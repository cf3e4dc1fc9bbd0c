"""What workers write reaches the terminal of the driver, marked with who wrote it; titles of processes."""

from __future__ import annotations

import re
import subprocess
import textwrap

import pytest

import ray

from .support import run_source, start_program, until

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")

TALKING = """
    import os, sys, ray
    ray.init(num_cpus=2, include_dashboard=False)

    @ray.remote
    def talk(word):
        print("out", word)
        print("err", word, file=sys.stderr)
        return os.getpid()

    @ray.remote
    class Speaker:
        def say(self, word):
            print("says", word)
            return os.getpid()

    @ray.remote
    class Shown:
        def __repr__(self):
            return "Shown(x=1)"

        def say(self, word):
            print("says", word)
            return os.getpid()

    speaker, shown = Speaker.remote(), Shown.remote()
    pids = ray.get([
        talk.remote("one"),
        talk.options(name="a renamed talker").remote("two"),
        speaker.say.remote("three"),
        shown.say.remote("four"),
    ])
    print("PIDS", *pids, flush=True)
"""

WAIT_TO_BE_ENDED = "\nsys.stdin.read()\nray.shutdown()\n"


def lines(text):
    return [ESCAPE.sub("", line) for line in text.splitlines()]


def watch(folder, source, seen, timeout_s=40):
    """Run a program until `seen(stdout, stderr)`, given the lines so far, is true; then let it end.

    Gives all lines that it wrote to its stdout and to its stderr.
    """
    program, out, err = folder / "program.py", folder / "out", folder / "err"
    program.write_text(textwrap.dedent(source) + WAIT_TO_BE_ENDED)
    with out.open("w") as stdout, err.open("w") as stderr:
        process = start_program(program, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
    try:
        until(lambda: seen(lines(out.read_text()), lines(err.read_text())), timeout_s=timeout_s)
    finally:
        process.communicate(timeout=30)
    return lines(out.read_text()), lines(err.read_text())


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    def seen(out, err):
        return all(any(word in line for line in out) for word in ("one", "two", "three", "four", "PIDS")) and any(
            "err two" in line for line in err
        )

    out, err = watch(tmp_path_factory.mktemp("talking"), TALKING, seen)
    pids = next(line for line in out if line.startswith("PIDS")).split()[1:]
    return out, err, pids


def test_lines_of_a_task_arrive_with_its_name_and_pid(talking):
    out, _, pids = talking
    assert f"(talk pid={pids[0]}) out one" in out


def test_what_a_worker_writes_to_stderr_arrives_on_stderr(talking):
    out, err, pids = talking
    assert f"(talk pid={pids[0]}) err one" in err
    assert not any("err one" in line for line in out)


def test_a_display_name_replaces_the_name_of_the_function(talking):
    out, _, pids = talking
    assert f"(a renamed talker pid={pids[1]}) out two" in out


def test_lines_of_an_actor_arrive_with_its_class(talking):
    out, _, pids = talking
    assert f"(Speaker pid={pids[2]}) says three" in out


def test_lines_of_an_actor_arrive_with_its_own_repr_where_it_has_one(talking):
    out, _, pids = talking
    assert f"(Shown(x=1) pid={pids[3]}) says four" in out


def test_log_to_driver_off_keeps_the_terminal_quiet(tmp_path):
    source = """
        import ray
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
        ray.get(ray.remote(lambda: print("should not be seen")).remote())
        print("done")
        ray.shutdown()
    """
    done = run_source(tmp_path, source)
    assert "should not be seen" not in done.stdout + done.stderr
    assert "done" in done.stdout


def test_lines_of_finished_calls_arrive_even_when_the_driver_ends_at_once(tmp_path):
    source = """
        import ray
        ray.init(num_cpus=2, include_dashboard=False)
        for i in range(5):
            ray.get(ray.remote(lambda i=i: print("line", i)).remote())
    """
    out = lines(run_source(tmp_path, source).stdout)
    assert all(any(line.endswith(f"line {i}") for line in out) for i in range(5))


def test_the_same_line_from_many_workers_is_shown_once_and_then_with_a_count(tmp_path):
    source = """
        import sys, ray
        ray.init(num_cpus=4, include_dashboard=False)

        @ray.remote
        class Chatter:
            def say(self):
                print("the same words")

        chatters = [Chatter.remote() for _ in range(5)]
        ray.get([chatter.__ray_ready__.remote() for chatter in chatters])
        ray.get([chatter.say.remote() for chatter in chatters])
    """
    out, _ = watch(tmp_path, source, lambda out, err: any("the same words" in line for line in out))
    shown = [line for line in out if "the same words" in line]
    assert len(shown) < 5
    assert any(re.search(r"repeated \d+x", line) for line in shown)


def test_an_error_that_nobody_reads_is_reported_on_stderr(tmp_path):
    source = """
        import sys, ray
        ray.init(num_cpus=2, include_dashboard=False)

        @ray.remote
        def forgotten():
            raise ValueError("nobody reads this")

        forgotten.remote()
    """
    watch(tmp_path, source, lambda out, err: any("nobody reads this" in line for line in err))


@pytest.mark.beyond_ray("says nothing until somebody looks at the cluster's status")
def test_a_request_that_can_never_be_met_is_reported_with_what_is_missing(tmp_path):
    source = """
        import sys, ray
        ray.init(num_cpus=2, include_dashboard=False)
        task = ray.remote(lambda: 1)
        refs = [task.options(num_cpus=64).remote(), task.options(resources={"unobtainium": 1}).remote()]
    """

    def seen(out, err):
        return any("64" in line for line in err) and any("unobtainium" in line for line in err)

    watch(tmp_path, source, seen, timeout_s=15)


@pytest.mark.usefixtures("cluster")
def test_a_process_carries_the_name_of_what_it_runs():
    def title():
        with open("/proc/self/cmdline") as file:
            return file.read().strip("\0").partition("\0")[0]

    class Titled:
        def title(self):
            return title()

    assert ray.get(ray.remote(title).remote()).startswith("ray::title")
    assert ray.get(ray.remote(Titled).remote().title.remote()).startswith("ray::Titled")

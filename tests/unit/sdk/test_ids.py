"""Identifiers as users see them."""

import copy
import pickle

import pytest

from ray import _ids

LENGTHS = {
    _ids.JobID: 4,
    _ids.ActorID: 16,
    _ids.TaskID: 24,
    _ids.PlacementGroupID: 18,
    _ids.UniqueID: 28,
    _ids.NodeID: 28,
    _ids.WorkerID: 28,
    _ids.FunctionID: 28,
    _ids.ActorClassID: 28,
}
every_class = pytest.mark.parametrize("cls", LENGTHS)


@every_class
def test_bytes_and_text_lead_back_to_the_same_id(cls):
    made = cls.from_random()
    assert cls(made.binary()) == cls.from_binary(made.binary()) == cls.from_hex(made.hex()) == made
    assert hash(cls(made.binary())) == hash(made)
    assert len(made.binary()) == cls.size() == LENGTHS[cls]
    assert repr(made) == f"{cls.__name__}({made.hex()})"
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


@every_class
def test_nil_is_nil_and_nothing_else_is(cls):
    assert cls.nil().is_nil()
    assert cls.nil() == cls.nil()
    assert not cls(bytes(LENGTHS[cls])).is_nil()


@every_class
def test_other_lengths_and_types_are_refused(cls):
    with pytest.raises(ValueError, match=f"exactly {LENGTHS[cls]} bytes"):
        cls(b"x" * (LENGTHS[cls] + 1))
    with pytest.raises(TypeError, match="from_hex"):
        cls("text")
    with pytest.raises(ValueError):
        cls.from_hex("zz" * LENGTHS[cls])
    with pytest.raises(ValueError):
        cls.from_hex("ab")
    with pytest.raises(TypeError):
        cls.from_hex(b"ab")


def test_ids_of_different_kinds_differ():
    raw = bytes(28)
    assert _ids.NodeID(raw) != _ids.WorkerID(raw)


def test_ids_have_no_order():
    with pytest.raises(TypeError):
        _ = _ids.NodeID.nil() < _ids.NodeID.nil()


def test_job_ids_are_numbers():
    assert _ids.JobID.from_int(1).hex() == "01000000"
    assert _ids.JobID.from_int(258).int() == 258
    with pytest.raises(ValueError, match="between 0 and 4294967295"):
        _ids.JobID.from_int(2**32)
    with pytest.raises(ValueError):
        _ids.JobID.from_int(-1)


def test_tasks_know_their_actor_and_job():
    task = _ids.TaskID(bytes(range(24)))
    assert task.actor_id() == _ids.ActorID(bytes(range(8, 24)))
    assert task.job_id() == task.actor_id().job_id() == _ids.JobID(bytes(range(20, 24)))

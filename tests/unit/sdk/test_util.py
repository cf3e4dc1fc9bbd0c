"""Small utilities: lazy names, log_once, marks, serializers, arguments of the helpers."""

import subprocess
import sys
import warnings

import pytest

import ray.util
from ray.util import accelerators, annotations, helpers, serialization

FRESH = """
import sys
import ray.util
assert not [name for name in sys.modules if name.startswith("ray.util.")], sys.modules
"""


def in_fresh_interpreter(program):
    run = subprocess.run(
        [sys.executable, "-c", FRESH + program], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr


def test_importing_the_package_imports_none_of_its_modules():
    in_fresh_interpreter("from ray.util import ActorPool; assert 'ray.util.actor_pool' in sys.modules")


def test_every_public_name_and_module_can_be_reached():
    for name in ray.util.__all__:
        assert callable(getattr(ray.util, name))
    assert ray.util.accelerators is accelerators
    assert set(ray.util.__all__) <= set(dir(ray.util))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ray.util.nothing


def test_log_once_is_true_once_per_key():
    in_fresh_interpreter(
        "from ray.util import log_once\n"
        "assert [log_once('a'), log_once('a'), log_once('b')] == [True, False, True]\n"
        "ray.util.enable_periodic_logging(0.0)\n"
        "assert log_once('a')\n"
        "ray.util.disable_log_once_globally()\n"
        "assert not log_once('c')\n"
    )


def test_marks_work_with_and_without_parentheses():
    @annotations.PublicAPI
    def plain():
        return 1

    @annotations.PublicAPI(stability="beta", api_group="Mine")
    class Marked:
        pass

    @annotations.DeveloperAPI
    class ForDevelopers:
        pass

    assert plain() == 1
    assert plain._annotated_type == "PublicAPI"
    assert Marked._annotated_api_group == "Mine"
    assert ForDevelopers._annotated_type == "DeveloperAPI"
    with pytest.raises(TypeError, match="keywords"):
        annotations.PublicAPI("beta")


def test_only_what_is_deprecated_with_a_warning_warns():
    @annotations.Deprecated
    def quiet():
        return 1

    @annotations.Deprecated(message="Use new().", warning=True)
    def old():
        return 2

    @annotations.Deprecated(warning=True)
    class Old:
        def __init__(self, value):
            self.value = value

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quiet() == 1
    with pytest.warns(annotations.RayDeprecationWarning, match=r"old is deprecated\. Use new\(\)\."):
        assert old() == 2
    with pytest.warns(annotations.RayDeprecationWarning, match="Old is deprecated"):
        assert Old(3).value == 3


def test_serializers_are_registered_and_forgotten():
    class Odd:
        pass

    serialization.register_serializer(Odd, serializer=str, deserializer=int)
    assert serialization._CUSTOM[Odd] == (str, int)
    serialization.deregister_serializer(Odd)
    serialization.deregister_serializer(Odd)
    assert Odd not in serialization._CUSTOM


def test_a_serializer_that_is_none_is_refused():
    with pytest.raises(TypeError, match="takes a class"):
        serialization.register_serializer("Odd", serializer=str, deserializer=int)
    with pytest.raises(TypeError, match="deserializer"):
        serialization.register_serializer(int, serializer=str, deserializer=None)


def test_sizes_of_the_helpers_are_checked_at_the_call():
    with pytest.raises(ValueError, match="chunk_size"):
        helpers.as_completed([], chunk_size=0)
    with pytest.raises(ValueError, match="chunk_size"):
        helpers.map_unordered(None, [], chunk_size=0)
    with pytest.raises(ValueError, match="backpressure_size"):
        helpers.map_unordered(None, [], backpressure_size=0)


def test_accelerators_have_the_names_that_nodes_report():
    assert accelerators.NVIDIA_TESLA_V100 == "V100"
    assert accelerators.NVIDIA_A100 == "A100"
    assert accelerators.GOOGLE_TPU_V5P == "TPU-V5P"

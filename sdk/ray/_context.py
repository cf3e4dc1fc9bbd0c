"""``ray.get_runtime_context``: what the running code can know of itself."""

import logging
from collections.abc import Mapping
from typing import Any

from ray import _actor, _session
from ray._session import Session
from rayd.ids import task_of

_log = logging.getLogger("ray")


class RuntimeContext:
    """Facts of the calling task, actor or driver. Ids are hexadecimal texts; None where there is no such thing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _call(self) -> Any:
        executor = self._session.executor
        return executor.call_now() if executor is not None else None

    def get_job_id(self) -> str:
        """Id of the job: this driver and all it started."""
        return self._session.client.job.hex()

    def get_node_id(self) -> str:
        """Id of this machine in the cluster."""
        node: bytes = self._session.client.info["node_id"]
        return node.hex()

    def get_worker_id(self) -> str:
        """Id of this process."""
        tail: bytes = self._session.client._tail
        return (tail * 2)[:28].hex()

    def get_task_id(self) -> str | None:
        """Id of the running task or call."""
        call = self._call()
        if call is None:
            self._none("get_task_id")
            return None
        return str(call.tid.hex())

    def get_task_name(self) -> str | None:
        """Its name: the option ``name``, else the function's."""
        call = self._call()
        if call is None:
            self._none("get_task_name")
            return None
        return str(call.what.name)

    def get_task_function_name(self) -> str | None:
        """Name of the function or method that runs."""
        call = self._call()
        if call is None:
            self._none("get_task_function_name")
            return None
        return str(getattr(call.what.function, "__qualname__", call.what.name))

    def get_actor_id(self) -> str | None:
        """Id of the actor this is."""
        executor = self._session.executor
        return executor.actor_id or None if executor is not None else None

    def get_actor_name(self) -> str | None:
        """Registered name of the actor this is; empty when it has none."""
        executor = self._session.executor
        if executor is None or executor.actor is None:
            return None
        return str(executor.actor.options.get("actor_name", ""))

    def get_placement_group_id(self) -> str | None:
        """Id of the placement group it runs in."""
        work = self._work()
        group = work.options.get("placement_group") if work is not None else None
        return bytes(group).hex() if group else None

    def _none(self, what: str) -> None:
        _log.warning("%s() is for tasks and actors; this is a driver", what)

    @property
    def namespace(self) -> str:
        """Where named actors of this job live."""
        return self._session.namespace

    @property
    def gcs_address(self) -> str:
        """Address of the cluster."""
        return self._session.client.address

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor was restarted."""
        executor = self._session.executor
        if executor is None or executor.actor is None:
            return False
        info = self._session.client.rpc("actor_info", actor_id=bytes.fromhex(executor.actor_id))
        return bool(info["restarts"])

    @property
    def current_actor(self) -> Any:
        """A handle to the actor this is.

        Raises:
            RuntimeError: it is none.
        """
        executor = self._session.executor
        if executor is None or not executor.actor_id or executor.actor is None:
            raise RuntimeError("current_actor is for actors; this is none")
        info = {"actor_id": bytes.fromhex(executor.actor_id), "meta": executor.actor.options["meta"]}
        return _actor.handle_from_info(self._session.client, info)

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks started here go into this placement group."""
        return self._session.client.captured is not None

    def _work(self) -> Any:
        """The spec of the running task, or of the actor this is."""
        executor = self._session.executor
        if executor is None:
            return None
        return executor.actor or (executor.main.what if executor.main is not None else None)

    def get_assigned_resources(self) -> dict[str, float]:
        """Amounts held for the running task or actor."""
        work = self._work()
        return dict(work.options.get("resources") or {}) if work is not None else {}

    @property
    def runtime_env(self) -> dict[str, Any]:
        """Environment of this job or actor."""
        return self._session.runtime_env

    def get_runtime_env_string(self) -> str:
        """The same as JSON."""
        import json

        return json.dumps(self._session.runtime_env)

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Ids of accelerators granted to what runs, by kind."""
        executor = self._session.executor
        ids = executor.gpus_now() if executor is not None else []
        return {"GPU": [str(number) for number in ids], "TPU": [], "NPU": [], "HPU": [], "neuron_cores": []}

    def get_node_labels(self) -> dict[str, str]:
        """Labels of this machine."""
        labels: Mapping[str, str] = self._session.client.info["labels"]
        return dict(labels)

    def is_canceled(self) -> bool:
        """Whether ``ray.cancel`` was called for the running call."""
        executor = self._session.executor
        call = self._call()
        return executor is not None and call is not None and executor.is_cancelled(call)

    def get_temp_dir(self) -> str:
        """Folder of all sessions."""
        return str(self._session.client.info["temp_dir"])

    def get_session_name(self) -> str:
        """Name of this session's folder."""
        return str(self._session.client.info["session_name"])

    def get(self) -> dict[str, Any]:
        """The ids as a map; kept for old programs."""
        call = self._call()
        return {
            "job_id": self.job_id,
            "node_id": self.node_id,
            "namespace": self.namespace,
            **({"task_id": self.task_id} if call is not None else {}),
            **({"actor_id": self.actor_id} if self.actor_id is not None else {}),
        }

    @property
    def job_id(self) -> Any:
        """JobID; kept for old programs."""
        from ray._ids import JobID

        return JobID(self._session.client.job)

    @property
    def node_id(self) -> Any:
        """NodeID; kept for old programs."""
        from ray._ids import NodeID

        return NodeID(self._session.client.info["node_id"])

    @property
    def task_id(self) -> Any:
        """TaskID or None; kept for old programs."""
        from ray._ids import TaskID

        call = self._call()
        return TaskID(task_of(call.tid)) if call is not None else None

    @property
    def actor_id(self) -> Any:
        """ActorID or None; kept for old programs."""
        from ray._ids import ActorID

        text = self.get_actor_id()
        return ActorID(bytes.fromhex(text)) if text else None


def get_runtime_context() -> RuntimeContext:
    """Facts of the calling task, actor or driver."""
    return RuntimeContext(_session.need())

"""The commands ``rayd`` and ``ray``: arguments in, text and an exit code out.

Exit codes: 0 done, 1 it failed, 2 the command was used wrongly. Nothing of the daemon imports this module.
"""

import importlib
import importlib.util
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import click

import rayd
from rayd.config import Config, ConfigError, Environment
from rayd.report import size, status_text, waits_text
from rayd.shell import procfs, sessions, token_file
from rayd.shell.control import Control, ControlError
from rayd.shell.dial_tcp import is_loopback
from rayd.shell.launch import LaunchError, Launching, Ready, log_tail
from rayd.trace import trace_events
from rayd.wire.secret import JOIN, KINDS, NEVER, SECRET_BYTES, key_of

# What an error of ours means to the shell that called us; anything else is a defect and shows its traceback.
_FAILURES: Final = (
    ControlError,
    LaunchError,
    sessions.AddressError,
    sessions.NoDaemonError,
    sessions.SessionError,
    token_file.TokenFileError,
)
# Commands of packages that cost more to import than all others together.
_LAZY: Final = {"microbenchmark": "rayd.bench.command"}

Command = TypeVar("Command", bound=Callable[..., Any])


class _Commands(click.Group):
    """Turns our errors into exit codes, and imports what is rarely used only when it is."""

    def list_commands(self, context: click.Context) -> list[str]:
        lazy = [name for name, module in _LAZY.items() if importlib.util.find_spec(module)]
        return sorted([*super().list_commands(context), *lazy])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        module = _LAZY.get(name)
        if module is not None and importlib.util.find_spec(module):
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        return super().get_command(context, name)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except ConfigError as error:
            raise click.UsageError(f"{error.flag} {error.value!r}: {error.problem}") from None
        except _FAILURES as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(rayd.__version__, message="rayd %(version)s")
def main() -> None:
    """Run Python functions and classes across processes.

    `rayd start --head` starts a daemon that outlives the programs which use it; programs find it by ray.init().
    """


def _address_option(command: Command) -> Command:
    return click.option(
        "--address", metavar="HOST:PORT", help="The daemon to ask [default: RAY_ADDRESS, else the one started last]."
    )(command)


@main.command()
@click.option("--head", is_flag=True, help="Start the first daemon of a new cluster.")
@click.option("--address", metavar="HOST:PORT", help="Join the cluster of this head.")
@click.option("--host", "--node-ip-address", "host", help="Address of this machine [default: 127.0.0.1].")
@click.option("--port", type=int, help="Port that names the cluster, 0 for any free one [default: 6379].")
@click.option("--num-cpus", type=float, help="CPUs that tasks may use [default: the usable ones].")
@click.option("--num-gpus", type=float, help="GPUs that tasks may use [default: the visible ones].")
@click.option("--resources", metavar="JSON", help="Further resources, such as '{\"disk\": 2}'.")
@click.option("--memory", type=int, metavar="BYTES", help="Memory that tasks may ask for.")
@click.option("--object-store-memory", type=int, metavar="BYTES", help="Object store [default: 30 % of memory].")
@click.option("--labels", metavar="KEY=VALUE,...", help="Labels of this node.")
@click.option("--temp-dir", metavar="DIR", help="Where the session's folder is made [default: /tmp/ray].")
@click.option("--node-name", help="Name of this node for people [default: the host's name].")
@click.option(
    "--insecure-unencrypted-network",
    "unencrypted",
    is_flag=True,
    help="Let everybody on the network read and change what is sent. Only for networks that encrypt by themselves.",
)
@click.option(
    "--journal",
    metavar="FILE|URL",
    help="Where the head keeps names, detached actors, groups, keys and nodes, so that another can go on when it was"
    " killed: a file, redis://HOST:PORT, or none [default: a file in ~/.rayd for this address, removed by rayd stop].",
)
@click.option("--block", is_flag=True, help="Stay in the foreground until the daemon ends.")
def start(
    head: bool, address: str | None, resources: str | None, labels: str | None, block: bool, **given: Any
) -> None:
    """Start a daemon on this machine."""
    if head == (address is not None):
        raise click.UsageError("say either --head, for a new cluster, or --address HOST:PORT, to join one.")
    given["port"] = 0 if address and given["port"] is None else given["port"]
    config = Config.make(
        head=head,
        join=sessions.normalized(address) if address else "",
        resources=_json_amounts(resources),
        labels=_labels(labels),
        **given,
    )
    with _launched(config) as ready:
        click.echo(_started_text(config, ready))
        if block:
            _wait_for_the_end(ready)


@main.command()
@click.option("-f", "--force", is_flag=True, help="Kill the daemons and all that they run at once.")
@click.option("-g", "--grace-period", type=click.FloatRange(min=0), default=16.0, show_default=True, metavar="SECONDS")
def stop(force: bool, grace_period: float) -> None:
    """Stop all daemons of this user on this machine, also those of running programs."""
    base = Environment.read().temp_dir()
    targets = _targets(base)
    for target in targets:
        _ask_to_stop(target, force)
    deadline = time.monotonic() + grace_period
    stuck = [target.pid for target in targets if not _gone(target, deadline)]
    sessions.clean(base)
    stopped = len(targets) - len(stuck)
    if not targets:
        click.echo("No rayd daemon was running.")
    elif stopped:
        click.echo(f"Stopped {stopped} rayd daemon{'s' if stopped != 1 else ''}.")
    if stuck:
        pids = ", ".join(map(str, stuck))
        raise click.ClickException(f"still running after {grace_period:g} s: pid {pids}; `rayd stop --force` kills it")


@main.command()
@click.argument("node")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="End it after this long in any case.")
@click.option("--no-wait", is_flag=True, help="Return at once; `rayd status` shows what the node waits for.")
@_address_option
def drain(node: str, timeout: float | None, no_wait: bool, address: str | None) -> None:
    """Let a node go: it takes no new work, its objects move away, and it ends when it has nothing left.

    NODE is the beginning of its id, its address or its name, as `rayd status` shows them.
    """
    with _connect(address) as control:
        node_id = bytes(control.rpc("drain", node=node, seconds=timeout or 0.0)).hex()
        click.echo(f"The node {node_id} takes no more work.")
        shown = ""
        while not no_wait:
            (row,) = [row for row in control.rpc("status")["nodes"] if row["node_id"] == node_id]
            if not row["alive"]:
                click.echo("It has ended.")
                return
            waits = waits_text(row["waits_for"])
            if waits != shown:
                click.echo(f"It waits for: {waits}" if waits else "It waits for nothing more.")
                shown = waits
            time.sleep(0.2)


@main.command()
@_address_option
def status(address: str | None) -> None:
    """Show nodes, resources, pending demands and the use of the object store."""
    with _connect(address) as control:
        answer = control.rpc("status")
    click.echo(status_text(answer, datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")))


@main.command()
@click.option(
    "--scope",
    type=click.Choice(list(KINDS)),
    help="Make one with less rights: all that programs may (admin), all but to stop the cluster (submit), or only to"
    " look (read). [default: join, the cluster's secret itself]",
)
@click.option("--expires", type=click.FloatRange(min=0, min_open=True), metavar="HOURS", help="When it becomes void.")
@click.option("--rotate", is_flag=True, help="Draw a new secret, which makes all tokens so far void.")
def token(scope: str | None, expires: float | None, rotate: bool) -> None:
    """Show the token by which programs on other machines prove that they may use this cluster.

    Put it into the file ~/.rayd/token there, which only its owner may read. It is as good as a password.
    """
    path = Environment.read().token_path()
    if rotate:
        token_file.replace(path, secrets.token_bytes(SECRET_BYTES))
    secret = token_file.secret_of_cluster(path)
    if expires is not None and (scope or JOIN) == JOIN:
        raise click.UsageError("--expires takes a --scope of less than all rights; --rotate makes the others void")
    void_from = NEVER if expires is None else int(time.time() + expires * 3600)
    click.echo(key_of(secret, scope or JOIN, void_from).token())


@main.command()
@_address_option
def timeline(address: str | None) -> None:
    """Write a trace of the tasks that ran."""
    with _connect(address) as control:
        runs = control.rpc("timeline")
    path = f"/tmp/ray-timeline-{datetime.now().astimezone():%Y-%m-%d_%H-%M-%S}.json"
    with open(path, "x", encoding="utf-8") as file:
        json.dump(trace_events(runs, os.uname().nodename), file)
    click.echo(f"{len(runs)} tasks are in {path}; open it at https://ui.perfetto.dev or chrome://tracing")


def _connect(address: str | None) -> Control:
    environment = Environment.read()
    wanted = address or environment.address or "auto"
    return Control(sessions.target(wanted, environment.temp_dir(), embedded=True))


def _json_amounts(text: str | None) -> dict[str, float]:
    """The value of --resources."""
    if text is None:
        return {}
    example = "give a JSON object, such as '{\"disk\": 2}'"
    try:
        amounts = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--resources {text}: is no JSON ({error}); {example}") from None
    if not isinstance(amounts, dict):
        raise click.UsageError(f"--resources {text}: is no object; {example}")
    return amounts


def _labels(text: str | None) -> dict[str, str]:
    """The value of --labels."""
    labels = {}
    for item in (text or "").split(","):
        key, equals, value = item.partition("=")
        if equals:
            labels[key.strip()] = value.strip()
        elif item.strip():
            raise click.UsageError(f"--labels {text}: {item!r} has no '='; give KEY=VALUE,KEY=VALUE")
    return labels


def _started_text(config: Config, ready: Ready) -> str:
    return (
        f"A rayd daemon runs at {ready.address} (pid {ready.pid}): {config.num_cpus:g} CPUs, {config.num_gpus:g} GPUs, "
        f"object store of {size(config.object_store_memory)}.\n"
        f"{_recovered_text(ready)}"
        f"Logs: {ready.session_dir}/logs\n"
        "\n"
        "Use it:   python -c 'import ray; ray.init(address=\"auto\"); print(ray.cluster_resources())'\n"
        "Look:     rayd status\n"
        "Stop it:  rayd stop\n"
        "\n"
        f"{_elsewhere_text(config, ready)}"
    )


def _recovered_text(ready: Ready) -> str:
    """What the head has from one that was killed."""
    found = ready.recovered
    if not any(found.values()):
        return ""
    parts = [
        f"{found[key]} {what}"
        for key, what in (
            ("nodes", "node(s) expected back"),
            ("names", "named actor(s) on them"),
            ("actors", "detached actor(s) started again"),
            ("actors_ended", "detached actor(s) ended with the former head"),
            ("groups", "placement group(s)"),
            ("keys", "key(s)"),
        )
        if found[key]
    ]
    return f"It goes on where a head was killed: {', '.join(parts) or 'nothing has outlived it'}.\n"


def _elsewhere_text(config: Config, ready: Ready) -> str:
    if config.join:
        return f"It is a node of the cluster whose head listens at {config.join}."
    if is_loopback(config.host):
        return (
            f"Another node on this machine:   rayd start --address={ready.address}\n"
            "Only this machine can reach it; --node-ip-address ADDRESS opens it to those who have its token."
        )
    return (
        "On other machines, put what `rayd token` prints here into ~/.rayd/token. Then\n"
        f"  another node:   rayd start --address={ready.address} --node-ip-address=ITS_OWN_ADDRESS\n"
        f'  a program:      ray.init("ray://{ready.address}")'
    )


@contextmanager
def _launched(config: Config) -> Iterator[Ready]:
    """Start the daemon; what interrupts this process, now or later, ends the daemon too, at whatever moment it comes.

    A signal that is ignored, as under nohup, stays so.
    """
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    former = {number: handler for number, handler in former.items() if handler is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, former)
    try:
        launching = Launching(config)
        for number in former:
            signal.signal(number, lambda *_: launching.interrupt())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, former)
    try:
        yield launching.finish()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _wait_for_the_end(ready: Ready) -> NoReturn:
    """Wait for the daemon and exit as it does."""
    _, status = os.waitpid(ready.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        click.echo("The rayd daemon has stopped.")
        raise SystemExit(0)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    raise click.ClickException(f"the rayd daemon (pid {ready.pid}) {how}{log_tail(ready.session_dir)}")


class _Target(NamedTuple):
    """A daemon that is to be stopped."""

    pid: int
    started: int
    socket: str | None  # None when its record was lost


def _targets(base: str) -> list[_Target]:
    """All daemons that run."""
    sockets: dict[int, str | None] = dict.fromkeys(pid for pid, _ in sessions.daemons(base))
    sockets |= {record.pid: record.socket for record in sessions.live(base)}
    starts = {pid: procfs.start_time(pid) for pid in sockets}
    return [_Target(pid, started, sockets[pid]) for pid, started in starts.items() if started is not None]


def _ask_to_stop(target: _Target, force: bool) -> None:
    if force:
        procfs.kill(target.pid, signal.SIGKILL)
        return
    if target.socket is not None:
        try:
            with Control(target.socket) as control:
                control.rpc("stop", reason="rayd stop")
                return
        except ControlError:
            pass  # it does not listen any more, but it may still hear a signal
    procfs.kill(target.pid, signal.SIGTERM)


def _gone(target: _Target, deadline: float) -> bool:
    """Wait for a daemon's end; whatever it started and did not take along is killed."""
    if not procfs.wait_gone(target.pid, target.started, max(0.0, deadline - time.monotonic())):
        return False
    procfs.end_session(target.pid)
    return True

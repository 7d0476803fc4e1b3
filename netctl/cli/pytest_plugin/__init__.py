"""The pytest plugin `netctl`: packet tests on a lab (docs/pytest.md).

Everything heavy is imported when a test asks for a lab: a run of pytest without labs pays nothing.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from netctl.cli.pytest_plugin.lab import Lab
    from netctl.cli.pytest_plugin.pool import Pool

_POOL = pytest.StashKey["Pool"]()
_LAB = pytest.StashKey["Lab"]()
_RUN = pytest.StashKey[str]()
_SIGNAL = pytest.StashKey[Any]()

TERMINATED = 128 + signal.SIGTERM


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--lab FILE`."""
    group = parser.getgroup("netctl", "packet tests on labs (netctl)")
    group.addoption(
        "--lab", metavar="FILE", help="the lab file for tests that name none with @pytest.mark.lab(FILE)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line(
        "markers",
        "lab(file): the lab file of the test; relative to the test's own file, or to the root directory",
    )


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The running lab of `@pytest.mark.lab("file.yaml")` or of `--lab FILE`, as the file says."""
    from netctl.errors import NetctlError

    with contextlib.ExitStack() as stack:
        trouble = ""
        try:
            made = stack.enter_context(_lab(request, tmp_path_factory))
        except NetctlError as error:
            trouble = str(error)
        if trouble:  # outside of `except`: the report is these words and nothing else
            pytest.fail(trouble, pytrace=False)
        request.node.stash[_LAB] = made
        yield made
        del request.node.stash[_LAB]


@contextlib.contextmanager
def _lab(request: pytest.FixtureRequest, temporary: pytest.TempPathFactory) -> Iterator[Lab]:
    from netctl.cli import operations
    from netctl.cli.pytest_plugin import files
    from netctl.cli.pytest_plugin.lab import Lab
    from netctl.cli.pytest_plugin.nics import Nics

    config = request.config
    places = [request.path.parent, config.rootpath]

    def find(word: str) -> Path:
        return files.find(word, places)

    def directory() -> Path:
        return temporary.mktemp("lab")

    pool = _pool(config)
    entry = pool.take(_file(request, find))
    intent = operations.locate(entry.name).intent
    with Nics(entry.name, intent) as nics:
        if entry.senders:
            # What the test before has sent and not waited for is not this one's.
            nics.settle(senders=entry.senders)
            nics.caught.clear()
        try:
            yield Lab(
                entry.name, intent, nics, lambda word: pool.under_name(entry.name, find(word)), directory
            )
        finally:
            entry.senders = {sent.place.name for sent in nics.sent}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what there is to see of a lab in which a test failed, and say where."""
    report = yield
    made = item.stash.get(_LAB, None)
    if report.when == "call" and report.failed and made is not None and call.excinfo is not None:
        from netctl.cli.pytest_plugin.evidence import keep
        from netctl.errors import InputError, NetctlError

        if not call.excinfo.errisinstance(InputError):  # that is the test's own mistake
            try:
                place = str(keep(made, item.nodeid, call.excinfo.exconly()))
            except (NetctlError, OSError) as error:
                report.sections.append(("netctl", f"no bundle: {error}"))
            else:
                report.sections.append(("netctl", f"bundle: {place}"))
                item.user_properties.append(("netctl_bundle", place))
                report.user_properties = list(item.user_properties)
    return report


def _file(request: pytest.FixtureRequest, find: Any) -> Path:
    from netctl.cli.pytest_plugin import files
    from netctl.errors import InputError

    marker = request.node.get_closest_marker("lab")
    if marker is not None:
        if len(marker.args) != 1 or marker.kwargs:
            raise InputError("@pytest.mark.lab takes one file", 'Write @pytest.mark.lab("file.yaml").')
        return find(str(marker.args[0]))  # type: ignore[no-any-return]
    word = request.config.getoption("--lab")
    if word is None:
        raise InputError(
            f"which lab? {request.node.name} names none",
            'Write @pytest.mark.lab("file.yaml") at the test, or run pytest with --lab FILE.',
        )
    return files.find(word, [request.config.invocation_params.dir, request.config.rootpath])


def _pool(config: pytest.Config) -> Pool:
    pool = config.stash.get(_POOL, None)
    if pool is None:
        from netctl.cli.pytest_plugin.pool import Pool

        worker = getattr(config, "workerinput", {})
        pool = Pool(worker.get("workerid", ""), worker.get("testrunuid", ""))
        config.stash[_POOL] = pool
        _end_on_sigterm(config)
    return pool


def _end_on_sigterm(config: pytest.Config) -> None:
    """A CI system that cancels a job sends SIGTERM; that must not leave labs behind."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ):

        def end(*_: object) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the labs are taken down now, once
            raise pytest.exit.Exception("terminated", returncode=TERMINATED)

        config.stash[_SIGNAL] = signal.signal(signal.SIGTERM, end)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: there is a worker that may bring up labs."""
    node.config.stash[_RUN] = node.workerinput["testrunuid"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take down the labs that were brought up here, and those that killed workers have left."""
    config = session.config
    pool = config.stash.get(_POOL, None)
    trouble = pool.close() if pool is not None else []
    if _RUN in config.stash and any(Path("/run/netctl").glob("*-gw*")):
        from netctl.cli.pytest_plugin.pool import sweep

        sweep(config.stash[_RUN])
    for words in trouble:
        print(f"netctl: {words}", file=sys.stderr)
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
    if _SIGNAL in config.stash:
        signal.signal(signal.SIGTERM, config.stash[_SIGNAL])

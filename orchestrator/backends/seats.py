"""The actors of the Ray backend: a seat for one process, and one for several that train together.

A trial on several GPUs (or, on CPUs, processes) sits in a placement group of one bundle a process,
all on one node. Its first process is a seat like any other to the driver; it hires the others,
which live and die with it, and tells them what to do. When one of them dies, pulls from the seat
fail, and the driver replaces it with all of them, as it does with a worker that died.

Touches processes, and a folder for temporary files where the processes of a segment meet.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.backends import sharing, worker
from orchestrator.backends.base import BackendError
from orchestrator.backends.bench import Arrival, Bench, UnfitError
from orchestrator.backends.sharing import Failure, Part, PartError
from orchestrator.backends.starving import REMEDY
from orchestrator.demand import Demand, Takes

if TYPE_CHECKING:
    from trainers.own import RunConfig

SETTLE_S = 30.0


def see_no_gpus() -> None:
    """Have this process find none. Ray shows them all to an actor that asks for none (from its
    pull request 62492 on, of April 2026), and each would train on the machine's first."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


class Seat(Bench):
    """A bench that knows the node on which it stands, and sees the GPUs that it was given."""

    def __init__(self, storage: str, train: worker.Train | None, *, gpus: float) -> None:
        super().__init__(storage, train)
        if not gpus:
            see_no_gpus()

    def arrive(self, config: RunConfig) -> Arrival:
        import ray

        return replace(super().arrive(config), node=ray.get_runtime_context().get_node_id())


class Follower:
    """Any process of several but the first. One call at a time, beside `stay`."""

    def __init__(self, gpus: float) -> None:
        if not gpus:
            see_no_gpus()

    def arrive(self, config: RunConfig, loads: bool) -> int:
        """Load the trainer where it is needed; the process's id."""
        if loads:
            worker.trainer(config)
            worker.facts(config)
        return os.getpid()

    def stay(self) -> None:
        """Never returns: whoever called hears of this process's death."""
        threading.Event().wait()

    def follow(self, part: Part) -> Failure | None:
        """Do this process's part of a segment; what went wrong, where something did."""
        try:
            for _ in sharing.take_part(part):
                pass
        except PartError as error:
            return error.failure
        except Exception as error:  # it did not even meet the others; told by the first process
            reason = worker.reason_of(error)
            return Failure(rank=part.rank, at_s=time.monotonic(), reason=reason)
        return None


class SharedSeat(Seat):
    """The first of several processes; hires the others into its own placement group.

    A stand-in for the trainer runs here alone, with the others idle.
    """

    def __init__(
        self,
        storage: str,
        train: worker.Train | None,
        ground: Any,
        places: Sequence[int],
        bundle: Mapping[str, float],
    ) -> None:
        """`places`: for each process, the bundle of the placement group that it sits in."""
        super().__init__(storage, train, gpus=bundle.get("GPU", 0.0))
        self._ground = ground
        self._places = places
        self._processes = len(places)
        self._bundle = bundle
        self._followers: list[Any] = []
        self._hiring = threading.Lock()
        self._training = threading.Lock()

    def arrive(self, config: RunConfig) -> Arrival:
        """With all of the others. Raises UnfitError where one of them has died."""
        import ray
        from ray.exceptions import RayActorError

        with self._hiring:
            if not self._followers:
                self._followers = [self._hired(rank) for rank in range(1, self._processes)]
                threading.Thread(target=self._watch, name="watching", daemon=True).start()
        loads = self._train is None
        calls = [follower.arrive.remote(config, loads) for follower in self._followers]
        try:
            ray.get(calls)
        except RayActorError as error:
            raise UnfitError(f"one of its {self._processes} processes {why_dead(error)}") from None
        return super().arrive(config)

    def _trainer(self) -> worker.Train | None:
        return self._together if self._train is None else self._train

    def _hired(self, rank: int) -> Any:
        import ray

        # Owned by this process, so that Ray ends them with it.
        place = self._places[rank]
        actor = _placed(ray.remote(Follower), self._ground, place, self._bundle, concurrency=2)
        return actor.remote(self._bundle.get("GPU", 0.0))

    def _watch(self) -> None:
        """Until one of the others dies; then nothing goes on here."""
        import ray
        from ray.exceptions import RayError

        calls = [follower.stay.remote() for follower in self._followers]
        gone, _ = ray.wait(calls, num_returns=1)
        try:
            ray.get(gone)
        except RayError as error:
            self._lost(calls.index(gone[0]), error)

    def _lost(self, place: int, error: Exception) -> None:
        self.fail(f"lost process {place + 2} of {self._processes}, which {why_dead(error)}")

    def _together(
        self,
        config: RunConfig,
        *,
        until: int,
        folder: Path,
        resume: Path | None,
        anneal: bool,
        stop: Callable[[], bool],
    ) -> Iterator[worker.TrainReport]:
        """The trainer's door, with the others behind it."""
        with self._training:  # after a divergence the segment before may still be clearing up
            here = Path(tempfile.mkdtemp(prefix="frontrunner-meeting-"))
            part = Part(
                config=config,
                until=until,
                folder=folder,
                resume=resume,
                anneal=anneal,
                meeting=here / "meeting",
                rank=0,
                processes=self._processes,
            )
            calls = [
                follower.follow.remote(replace(part, rank=rank))
                for rank, follower in enumerate(self._followers, start=1)
            ]
            over = threading.Event()
            threading.Thread(target=self._attend, args=(calls, over), daemon=True).start()
            failures: list[Failure] = []
            try:
                yield from sharing.take_part(part, stop)
            except PartError as error:
                if error.failure.final:
                    self.fail(str(PartError(error.failure, self._processes)))
                failures.append(error.failure)
                failures += self._settled(calls)
                first = min(failures, key=lambda failure: failure.at_s)
                if first.rank == 0 and error.__cause__ is not None:
                    raise error.__cause__ from None
                raise PartError(first, self._processes) from error
            finally:
                self._settled(calls)
                over.set()
                shutil.rmtree(here, ignore_errors=True)

    def _attend(self, calls: list[Any], over: threading.Event) -> None:
        """Give up this seat where one of the others failed and the first waits for it in vain."""
        import ray

        ended, _ = ray.wait(calls, num_returns=1)
        failures = self._failures(calls, ended)
        if failures and not over.wait(SETTLE_S):
            self.fail(f"hangs: {PartError(failures[0], self._processes)}")

    def _settled(self, calls: list[Any]) -> list[Failure]:
        """How the others failed, once all have ended; gives up this seat where they do not."""
        import ray

        ended, late = ray.wait(calls, num_returns=len(calls), timeout=SETTLE_S)
        if late:
            self.fail(f"waits in vain for {len(late)} of its {self._processes} processes")
        return self._failures(calls, ended)

    def _failures(self, calls: list[Any], ended: list[Any]) -> list[Failure]:
        """What the calls that ended say went wrong; where a process died, this seat gives up."""
        import ray
        from ray.exceptions import RayError

        found: list[Failure | None] = []
        for call in ended:
            try:
                found.append(ray.get(call))
            except RayError as error:
                self._lost(calls.index(call), error)
        return [failure for failure in found if failure is not None]


def hire(
    storage: Path, train: worker.Train | None, takes: Takes, ground: Any, places: Sequence[int]
) -> tuple[Any, Any]:
    """An actor for a trial, and the placement group that was made for it: None for a single
    process, and where it gets a ground to sit on, in these bundles of it. Does not wait for room.
    """
    import ray

    own = None
    processes = takes.processes
    if ground is None and processes == 1:
        actor = _unplaced(ray.remote(Seat), _amounts(takes), concurrency=4)
        return actor.remote(str(storage), train, gpus=takes.gpus or 0.0), None
    bundle = {name: share / processes for name, share in _amounts(takes).items() if share > 0}
    if ground is None:
        ground = own = hold([bundle] * processes)
        places = range(processes)
    if processes == 1:
        actor = _placed(ray.remote(Seat), ground, places[0], bundle, concurrency=4)
        return actor.remote(str(storage), train, gpus=takes.gpus or 0.0), own
    actor = _placed(ray.remote(SharedSeat), ground, places[0], bundle, concurrency=4)
    seats = list(places[:processes])
    return actor.remote(str(storage), train, ground, seats, bundle), own


def _amounts(takes: Takes) -> dict[str, float]:
    return {"CPU": takes.cpus, "GPU": takes.gpus or 0.0}


def hold(bundles: Sequence[Mapping[str, float]]) -> Any:
    """A placement group of these bundles, all on one node; does not wait for it."""
    from ray.util.placement_group import placement_group

    return placement_group([dict(bundle) for bundle in bundles], strategy="STRICT_PACK")


def check_precision(found: Collection[str]) -> None:
    """Refuse workers of several precisions, as `auto` gives on unlike machines: losses of one
    sweep are compared, and bf16 alone moves them by hundredths of a nat at high rates."""
    if len(set(found)) > 1:
        told = " and ".join(sorted(set(found)))
        raise BackendError(
            f"some workers would compute in {told}, and their losses could not be compared: state "
            "trial.precision (fp32 is had everywhere), or leave the nodes of one kind out"
        )


def block(slots: int, demand: Demand) -> list[dict[str, float]]:
    """The bundles for so many slots: a single one, or one a GPU where trials share GPUs, so that
    what is free on a GPU is known to be on one."""
    slot, share = demand.slot, demand.share
    count = 1 if share == 1 else slots // share
    each = slots // count
    gpus = (slot.gpus or 0.0) * each if share == 1 else 1.0
    amounts = {"CPU": _rounded_up(slot.cpus * each), "GPU": gpus}
    return [{name: share for name, share in amounts.items() if share > 0}] * count


def _rounded_up(amount: float) -> float:
    """To what Ray tells apart: no worker may miss a part of a CPU that rounding took."""
    return math.ceil(amount * 1e4 - 1e-6) / 1e4


def is_held(ground: Any) -> bool:
    """Whether a node has room for a placement group now."""
    from ray.util.placement_group import placement_group_table

    return placement_group_table(ground).get("state") == "CREATED"


def starved(error: Exception) -> bool:
    """Whether Ray says that it killed the worker because its node ran short of memory."""
    from ray.exceptions import OutOfMemoryError

    return isinstance(error, OutOfMemoryError)


def unborn(error: Exception) -> bool:
    """Whether an actor was never there, since making it raised an exception: the next one's would
    too."""
    from ray.exceptions import RayActorError

    return isinstance(error, RayActorError) and error.actor_init_failed


def why_dead(error: Exception) -> str:
    """What of Ray's many lines about a death tells the reason."""
    if starved(error):
        _, _, rest = str(error).partition(") was ")
        used = f" ({rest.partition(' (')[0]})" if rest else ""
        return f"died: its node ran out of memory{used}: {REMEDY}"
    text = " ".join(str(error).split())
    for mark in ("Worker exit detail:", "because", ":"):
        _, found, rest = text.partition(mark)
        if found:
            text = rest.partition("Some common causes")[0].strip()
            break
    return f"died: {text[:200] or type(error).__name__}"


def _unplaced(actor: Any, amounts: Mapping[str, float], concurrency: int, **more: Any) -> Any:
    # Never restarted by Ray: a new process is a new attempt, which the driver decides.
    return actor.options(
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=concurrency,
        num_cpus=amounts.get("CPU", 0),
        num_gpus=amounts.get("GPU", 0),
        **more,
    )


def _placed(
    actor: Any, ground: Any, index: int, bundle: Mapping[str, float], concurrency: int
) -> Any:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    there = PlacementGroupSchedulingStrategy(ground, placement_group_bundle_index=index)
    return _unplaced(actor, bundle, concurrency, scheduling_strategy=there)

"""Segments on a Ray cluster: a pool of long-lived workers, one a slot.

Each worker is an actor (`bench`) that loads torch once and trains in a thread of its own. The
driver pulls numbered reports from it, so that any call may be repeated when Ray does not know
whether it arrived (ActorUnavailableError); a pull acknowledges what the poll before it returned. A
dead worker is replaced, and its segment reported lost: starting it again is the driver's decision.
Touches processes, GPUs, the clock, and what `cluster` touches. Ray is imported in these two files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator.backends import seats, staffing, worker
from orchestrator.backends.base import BackendError, Report, UnavailableError
from orchestrator.backends.bench import UnfitError
from orchestrator.backends.cluster import Cluster, check_request
from orchestrator.backends.crew import Crew
from orchestrator.backends.gathering import Gathering
from orchestrator.backends.grounds import Grounds
from orchestrator.backends.member import Job, Member
from orchestrator.backends.together import Key
from orchestrator.demand import Demand, demand_of
from orchestrator.events import Cause, Started
from orchestrator.pool import Pool
from orchestrator.resources import Steps
from orchestrator.values import Environment
from trainers.findings import FieldError

PULL_WAIT_S = 10.0
SLICE_S = 0.5
TELL_EVERY_S = 15.0
LATE_EVERY_S = 600.0
RETRY_S = 0.5
DEATHS_ON_ARRIVAL = 6


class RayBackend:
    """The backend for GPUs and for more than one of anything.

    `slots` defaults to what the cluster holds of `gpus_per_trial` (one where there are any GPUs)
    and `cpus_per_trial`; fractions pack several trials on a GPU, and on several GPUs (or as
    `processes_per_trial` on CPUs) as many processes train one (`seats`). Where trials differ in
    that, a slot is a part of what they take, and they sit on `grounds`. `patience_s` bounds every
    wait for a first worker; while others work, a segment whose worker is gone waits for one of
    them. One that was told to stop is killed after `grace_s` or three times its trial's longest
    gap between points: a checkpoint is written only there. `train` stands in for the trainer; data
    are then nobody's concern.
    """

    def __init__(
        self,
        pool: Pool,
        storage: Path,
        *,
        slots: int | None = None,
        address: str | None = None,
        gpus_per_trial: float | Steps | None = None,
        cpus_per_trial: float | Steps = 1.0,
        processes_per_trial: int | Steps | None = None,
        progress: Callable[[str], None] | None = None,
        patience_s: float = 300.0,
        grace_s: float = 900.0,
        train: worker.Train | None = None,
    ) -> None:
        """Returns once its workers are ready. Raises BackendError where that cannot be, and
        UnavailableError where it cannot be now."""
        self._pool = pool
        self._storage = Path(os.path.abspath(storage))
        self._tell = progress or (lambda _: None)
        self._patience_s = patience_s
        self._grace_s = grace_s
        self._train = train
        self._gathering = Gathering()
        self._unsaid: list[Report] = []
        self._longest_gap: dict[str, float] = {}
        self._deaths = 0
        self._told_at = time.monotonic()
        self._closed = False
        if not pool.configs:
            raise BackendError(
                "a pool of recorded curves cannot be trained: use the replay backend"
            )
        check_request(slots, gpus_per_trial, cpus_per_trial, processes_per_trial)
        demand = self._demanded(gpus_per_trial, cpus_per_trial, processes_per_trial)
        self._cluster = Cluster.open(address, slots, demand.slot.cpus, self._tell)
        self._kernel = staffing.kernel_watch(self._cluster)
        self._crew = self._crew_of(demand, None, 0)
        try:
            if gpus_per_trial is None:
                gpus = self._gpus_here(processes_per_trial)
                demand = self._demanded(gpus, cpus_per_trial, processes_per_trial)
            self._demand = demand
            self._environment = self._manned(slots)
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> Environment:
        return self._environment

    def start(self, segment: Started) -> None:
        """Hand it to a free worker. Raises BackendError for an unknown trial, or no free slot."""
        if self._closed:
            raise BackendError("this backend is closed")
        if segment.trial not in self._pool:
            raise BackendError(f"no candidate {segment.trial!r} in this pool")
        self._begin_all(self._crew.seated())
        if self._crew.full:
            raise BackendError(
                f"all {self._crew.slots} slots are taken: {segment.trial} has to wait"
            )
        segments = self._gathering.add(segment)
        if segments:
            takes = self._demand.takes(self._pool[segment.trial], segment.until)
            self._begin_all(self._crew.take_on(Job.of(segments), takes))

    def stop(self, trial: str) -> None:
        for member in self._crew.members:
            job = member.job
            if job is None:
                continue
            keys = job.of_trial(trial)
            if member.arrived is None:
                self._lose(member, "interrupted", "it was stopped before a worker came", keys)
                continue
            for key in keys:
                job.stops[key] = time.monotonic()
                member.handle.stop.remote(*key)
        self._unsaid += self._crew.let_go(trial)

    def poll(self, timeout_s: float) -> list[Report]:
        """Raises BackendError where no worker can be had any more."""
        deadline = time.monotonic() + timeout_s
        while not self._closed:
            self._listen(min(SLICE_S, max(0.0, deadline - time.monotonic())))
            if self._unsaid or time.monotonic() >= deadline:
                break
        said, self._unsaid = self._unsaid, []
        return said

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._unsaid.clear()
        self._cluster.close(self._crew.held())
        self._crew.members.clear()

    def _demanded(
        self,
        gpus: float | Steps | None,
        cpus: float | Steps,
        processes: int | Steps | None,
    ) -> Demand:
        try:
            return demand_of(
                self._pool.candidates,
                self._pool.configs,
                gpus=gpus,
                cpus=cpus,
                processes=processes,
            )
        except FieldError as error:
            raise BackendError(error.message) from error

    def _gpus_here(self, processes: int | Steps | None) -> float | Steps:
        """What was left open, decided by what there is."""
        wanted = any(config.device != "cpu" for config in self._pool.configs)
        return processes or 1.0 if wanted and self._cluster.has_gpus else 0.0

    def _manned(self, slots: int | None) -> Environment:
        """Prove the nodes, start the workers, prepare the data, and wait for all three."""
        cluster, demand = self._cluster, self._demand
        rooms = staffing.rooms_on(cluster, demand, slots)
        nodes = [node for node, _ in rooms]
        if not cluster.own:
            cluster.prove(nodes, self._storage, worker.handshake())
        grounds = staffing.grounds_on(rooms, demand, slots) if demand.varies else None
        count = slots or sum(room for _, room in rooms)
        self._crew = self._crew_of(demand, grounds, count)
        self._tend()
        data_facts = ()
        if self._train is None:
            self._tell("preparing the data")
            data_facts = staffing.prepare_data(cluster, self._pool, nodes)
        self._await_workers()
        arrivals = [member.arrived for member in self._crew.members if member.arrived is not None]
        told = [value for a in arrivals for name, value in a.facts if name == "precision"]
        seats.check_precision(told)
        return self._crew.environment(("ray", metadata.version("ray")), *data_facts)

    def _crew_of(self, demand: Demand, grounds: Grounds | None, slots: int) -> Crew:
        return Crew(demand, grounds, slots, kill=self._cluster.kill, is_held=seats.is_held)

    def _hire(self, member: Member) -> None:
        """Start the member's worker, unless it has one, and ask for its arrival."""
        if member.handle is None:
            held, places = self._crew.beneath(member)
            member.handle, member.ground = seats.hire(
                self._storage, self._train, member.takes, held, places
            )
        member.arrival = member.handle.arrive.remote(self._pool.configs[0])

    def _await_workers(self) -> None:
        """All workers, or after the patience those that came."""
        crew = self._crew
        self._tell(f"waiting for {len(crew.members)} workers")
        self._told_at = time.monotonic()
        deadline = self._told_at + self._patience_s
        while time.monotonic() < deadline:
            if all(member.arrived is not None for member in crew.members):
                return
            self._listen(SLICE_S)
        late = sum(member.arrived is None for member in crew.members)
        if late == len(crew.members):
            raise self._nobody()
        crew.without_late()
        if not crew.holds_the_largest:
            raise self._nobody("no place was found for the largest trial")
        self._tell(
            f"going on with {crew.slots} slots: {late} workers did not come within "
            f"{self._patience_s:.0f} s"
        )

    def _nobody(self, what: str = "no worker could be placed") -> UnavailableError:
        return UnavailableError(
            f"{what} within {self._patience_s:.0f} s: {self._cluster.told}, "
            "all of it taken by others or gone; free some, or add nodes, and resume"
        )

    def _listen(self, timeout_s: float) -> None:
        """Keep the calls going, wait for an answer at most so long, and take in what came."""
        import ray

        self._tend()
        calls = {call: member for member in self._crew.members for call in member.calls}
        if not calls or self._unsaid:
            time.sleep(0.0 if self._unsaid else timeout_s)
            return
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        for call in ready:
            if call in calls[call].calls:  # else its worker was replaced meanwhile
                self._hear(calls[call], call)

    def _tend(self) -> None:
        """Call again, give up on what is late, and say who is waited for."""
        self._begin_all(self._crew.seated())
        now = time.monotonic()
        for member in self._crew.members:
            if member.arrived is None:
                self._tend_late(member, now)
            elif member.out_of_touch is not None and now - member.out_of_touch > self._patience_s:
                self._replace(member, f"was out of reach for {self._patience_s:.0f} s")
            elif (late := self._overdue(member, now)) is not None:
                self._lose(member, "interrupted", late)
                self._replace(member, "was killed")
            elif member.pull is None and now >= member.retry_at:
                if member.begin_lost:
                    self._begin(member)
                stops = tuple(member.job.stops) if member.job is not None else ()
                member.pull = member.handle.reports.remote(member.seen, PULL_WAIT_S, stops)

    def _overdue(self, member: Member, now: float) -> str | None:
        """That a segment of it was told to stop longer ago than it can need to come to a point."""
        if member.job is None or not member.job.stops:
            return None
        (trial, _), since = min(member.job.stops.items(), key=lambda entry: entry[1])
        allowed_s = max(self._grace_s, 3 * self._longest_gap.get(trial, 0.0))
        waited = now - since
        if waited > TELL_EVERY_S and now - self._told_at > TELL_EVERY_S:
            self._told_at = now
            left = [key[0] for m in self._crew.members if m.job is not None for key in m.job.stops]
            self._tell(
                f"waiting for {', '.join(left)} to come to a point, and write a checkpoint, since "
                f"{waited:.0f} s; {trial} is killed after {allowed_s:.0f} s"
            )
        return f"{trial} did not stop within {waited:.0f} s" if waited > allowed_s else None

    def _tend_late(self, member: Member, now: float) -> None:
        waited = now - member.since
        every_s = TELL_EVERY_S if waited < self._patience_s else LATE_EVERY_S
        if min(waited, now - self._told_at) > every_s:
            self._told_at = now
            late = sum(member.arrived is None for member in self._crew.members)
            self._tell(f"waiting for {late} workers since {waited:.0f} s: {self._cluster.told}")
        if member.arrival is None and now >= member.retry_at:
            self._hire(member)
        nobody = all(other.arrived is None for other in self._crew.members)
        wanted = member.job is not None or self._crew.waits
        if nobody and wanted and waited > self._patience_s:
            raise self._nobody()

    def _hear(self, member: Member, call: Any) -> None:
        """Take in one answer."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

        try:
            answer: Any = ray.get(call)
        except ActorUnavailableError:
            # Nobody knows: it may be dead, slow, or cut off. Every call is safe to repeat.
            now = time.monotonic()
            member.out_of_touch = member.out_of_touch or now
            member.retry_at = now + RETRY_S
            member.begin_lost = member.begin_lost or member.begun is not None
            member.arrival = member.pull = member.begun = None
            return
        except RayTaskError as error:
            if call == member.arrival and not isinstance(error.cause, UnfitError):
                raise BackendError(f"a worker cannot train: {error.cause}") from error
            self._died(member, f"failed: {error.cause}")
            return
        except RayError as error:
            if seats.unborn(error):
                raise BackendError(f"a worker cannot begin: it {seats.why_dead(error)}") from error
            self._died(member, seats.why_dead(error), starved=seats.starved(error))
            return
        member.out_of_touch = None
        if call == member.arrival:
            member.arrival, member.arrived, self._deaths = None, answer, 0
            self._cluster.admit(answer.node, self._storage, worker.handshake())
            self._begin(member)
        elif call == member.begun:
            member.begun = None
        else:
            member.pull = None
            for number, report in answer:
                if number > member.seen:
                    member.seen = number
                    self._take(member, report)

    def _take(self, member: Member, report: Report) -> None:
        """Pass a report on, and note what it says of the worker."""
        self._unsaid.append(report)
        job = member.job
        if job is not None:
            trials = [trial for trial, _ in job.going]
            gap = job.heard(report)  # those of a stack come to their points together
            self._longest_gap |= {t: max(gap, self._longest_gap.get(t, 0.0)) for t in trials}
            member.job = job if job.going else None

    def _begin_all(self, members: Sequence[Member]) -> None:
        for member in members:
            self._begin(member)

    def _begin(self, member: Member) -> None:
        member.begin_lost = False
        if member.job is not None:
            segments = list(member.job.going.values())
            configs = [self._pool.train_config(segment.trial) for segment in segments]
            member.begun = member.handle.begin.remote(segments, configs)

    def _lose(
        self, member: Member, cause: Cause, reason: str, keys: Sequence[Key] | None = None
    ) -> None:
        """Some segments of its job, or all of them, will report no more."""
        job = member.job
        if job is not None:
            for key in list(job.going) if keys is None else keys:
                self._unsaid.append(job.lost(key, cause, reason))
            member.job = job if job.going else None

    def _died(self, member: Member, why: str, *, starved: bool = False) -> None:
        """By itself, or by the hand of Ray or of its node's kernel."""
        node, before = member.origin
        killed = None if starved else self._kernel.meanwhile(node, before)
        why = why if killed is None else f"{why.rstrip('.')}; {killed}"
        self._replace(member, why, starved=starved or killed is not None)

    def _replace(self, member: Member, why: str, *, starved: bool = False) -> None:
        """A new worker in the place of one that is dead, or is now killed. A stack whose node was
        `starved` of memory did not fit there."""
        self._tell(f"{member.who} {why}; starting another")
        another = self._crew.another(member)
        if member.arrived is not None:
            crowded = starved and member.job is not None and member.job.stacked
            self._lose(member, "crowded" if crowded else "died", f"{member.who} {why}")
        else:  # a dying node takes workers for seconds and loses them; no segment has begun there
            if member.job is not None:
                another.take(member.job)
            another.retry_at = another.since + 2.0**self._deaths
            self._deaths += 1
        if self._deaths >= DEATHS_ON_ARRIVAL:
            raise UnavailableError(
                f"{self._deaths} workers in a row died before they were ready; the last {why}"
            )
        self._told_at = another.since

"""Removing what abandoned runs left: never an output, nor what an unfinished job goes on from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cluster import layout
from cluster.layout import (
    BegunStills,
    BegunVideo,
    Failure,
    FinishedOutput,
    Heartbeat,
    Part,
    Receipt,
    run_of,
)
from cluster.manifest import Manifest, is_alive
from cluster.plan import name_key
from cluster.report import Snapshot
from cluster.storage import ObjectInfo, Storage
from cluster.storage.parallel import in_parallel
from cluster.tasks import SegmentReceipt

# Runs tell of themselves every few seconds, unless their store fails them for a while.
_SURELY_SILENT_S = 600.0


@dataclass(frozen=True)
class Cleaned:
    """What was removed, in numbers of objects.

    Attributes:
        num_parts: Of segments: those that no receipt refers to, or whose output is finished.
        num_receipts: Of segments: those without their part, or whose output is finished.
        num_plans: Of videos that are finished.
        num_failures: Records of what failed before an output was finished.
        num_markers: Of images that a worker was at.
        num_heartbeats: Of runs that are over; the last one is kept.
        num_uploads: That began and never ended.
        num_scratch_files: On their way into the store, on this machine.
        num_bytes: Of all objects; uploads and scratch are not counted.
    """

    num_parts: int
    num_receipts: int
    num_plans: int
    num_failures: int
    num_markers: int
    num_heartbeats: int
    num_uploads: int
    num_scratch_files: int
    num_bytes: int


@dataclass
class _Output:
    """What lies there of one output, beside its own receipt.

    Attributes:
        parts: By segment key.
        receipts: Of segments, by segment key.
        plans: Of it as a video.
    """

    parts: dict[str, list[ObjectInfo]] = field(default_factory=lambda: defaultdict(list))
    receipts: dict[str, ObjectInfo] = field(default_factory=dict)
    plans: list[ObjectInfo] = field(default_factory=list)
    failures: list[ObjectInfo] = field(default_factory=list)

    @property
    def all_parts(self) -> list[ObjectInfo]:
        """Of all its segments."""
        return [part for parts in self.parts.values() for part in parts]

    @property
    def run_ids(self) -> set[str]:
        """Of the runs whose attempts there are."""
        return {run_of(info.key) for info in (*self.all_parts, *self.failures)}


@dataclass
class _State:
    """The objects of a listing, sorted.

    Attributes:
        outputs: By output key.
        finished: Output keys that have a receipt.
        markers: Of images that a worker was at.
        heartbeats: By run.
    """

    outputs: dict[str, _Output] = field(default_factory=lambda: defaultdict(_Output))
    finished: set[str] = field(default_factory=set)
    markers: list[ObjectInfo] = field(default_factory=list)
    heartbeats: dict[str, ObjectInfo] = field(default_factory=dict)

    def is_own(self, key: str) -> bool:
        """Whether a key is of the state, or the name of an output that some run began."""
        begun = {output_key.partition("-")[0] for output_key in (*self.outputs, *self.finished)}
        return key.startswith(f"{layout.ROOT}/") or name_key(key) in begun

    def note(self, info: ObjectInfo) -> None:
        """Takes in one object."""
        match layout.parse(info.key):
            case FinishedOutput(output_key):
                self.finished.add(output_key)
            case BegunVideo(output_key):
                self.outputs[output_key].plans.append(info)
            case BegunStills():
                self.markers.append(info)
            case Receipt() as receipt:
                self.outputs[receipt.output_key].receipts[receipt.segment_key] = info
            case Part() as part:
                self.outputs[part.output_key].parts[part.segment_key].append(info)
            case Failure() as failure:
                self.outputs[failure.output_key].failures.append(info)
            case Heartbeat(run_id):
                self.heartbeats[run_id] = info
            case _:
                pass


class _Runs:
    """Which runs are over."""

    def __init__(self, snapshots: Iterable[Snapshot], older_than_s: float, now_s: float) -> None:
        self._snapshots = {snapshot.run_id: snapshot for snapshot in snapshots}
        self._older_than_s = older_than_s
        self._now_s = now_s

    def is_over(self, run_id: str) -> bool:
        """Whether a run ended, or fell silent, long enough ago. What has no such name is of no run."""
        snapshot = self._snapshots.get(run_id)
        last_sign_s = _begun_s(run_id) if snapshot is None else snapshot.updated_s
        if last_sign_s is None:
            return False
        if snapshot is not None and is_alive(snapshot, self._now_s, _SURELY_SILENT_S):
            return False
        return self._now_s - last_sign_s > (self._older_than_s if snapshot else self._least_s)

    @property
    def _least_s(self) -> float:
        return max(self._older_than_s, _SURELY_SILENT_S)

    @property
    def last(self) -> str:
        """The run that was heard of last; empty where there was none."""
        return (
            max(self._snapshots.values(), key=lambda each: each.updated_s).run_id if self._snapshots else ""
        )

    @property
    def upload_age_s(self) -> float:
        """The age of uploads that surely belong to no run that is still at work."""
        alive = (s for s in self._snapshots.values() if is_alive(s, self._now_s, _SURELY_SILENT_S))
        return max([self._least_s, *(self._now_s - s.updated_s + s.elapsed_s for s in alive)])


@dataclass
class _Leftovers:
    """What is to be removed."""

    parts: list[ObjectInfo] = field(default_factory=list)
    receipts: list[ObjectInfo] = field(default_factory=list)
    plans: list[ObjectInfo] = field(default_factory=list)
    failures: list[ObjectInfo] = field(default_factory=list)
    markers: list[ObjectInfo] = field(default_factory=list)
    heartbeats: list[ObjectInfo] = field(default_factory=list)

    def add_all_of(self, output: _Output) -> None:
        """Takes all that lies there of an output that is finished."""
        self.parts += output.all_parts
        self.receipts += output.receipts.values()
        self.plans += output.plans
        self.failures += output.failures

    def in_order(self) -> list[ObjectInfo]:
        """Receipts before parts, so that a crash leaves none that promises what is gone."""
        kinds = (self.receipts, self.parts, self.plans, self.failures, self.markers, self.heartbeats)
        return [info for kind in kinds for info in kind]


def clean(storage: Storage, older_than_s: float, now_s: float, *, is_dry_run: bool = False) -> Cleaned | None:
    """Removes what abandoned runs left in `storage`; None where no job has written there.

    Args:
        older_than_s: How long a run must have been silent to be abandoned. One that may still be at work
            never is.
        now_s: In seconds since 1970.
        is_dry_run: Remove nothing, and leave out uploads and scratch, which only removing would count.

    Raises:
        StorageError: The store refuses or fails.
    """
    manifest, state = Manifest(storage), _State()
    for info in manifest.listed():
        state.note(info)
    if not (state.outputs or state.finished or state.markers or state.heartbeats):
        return None
    snapshots = in_parallel(manifest.snapshot, state.heartbeats)
    runs = _Runs((each for each in snapshots if each), older_than_s, now_s)
    found = _leftovers(state, runs, manifest, storage)
    if not is_dry_run:
        for _ in in_parallel(storage.delete, [info.key for info in found.in_order()]):
            pass
    return Cleaned(
        num_parts=len(found.parts),
        num_receipts=len(found.receipts),
        num_plans=len(found.plans),
        num_failures=len(found.failures),
        num_markers=len(found.markers),
        num_heartbeats=len(found.heartbeats),
        num_uploads=0 if is_dry_run else storage.sweep_uploads(runs.upload_age_s, state.is_own),
        num_scratch_files=0 if is_dry_run else storage.sweep_scratch(runs.upload_age_s),
        num_bytes=sum(info.size_bytes for info in found.in_order()),
    )


def _leftovers(state: _State, runs: _Runs, manifest: Manifest, storage: Storage) -> _Leftovers:
    found = _Leftovers()
    published = _published(state.outputs.keys() & state.finished, manifest, storage)
    for key, output in state.outputs.items():
        if key not in published:
            _add_worthless(found, output, runs, manifest)
        elif all(map(runs.is_over, output.run_ids)):
            found.add_all_of(output)
    over = [info for info in state.markers if runs.is_over(run_of(info.key))]
    for info, begun in zip(over, in_parallel(manifest.begun_of, [info.key for info in over]), strict=True):
        if state.finished.issuperset(begun):  # else what stands under their names would be somebody else's
            found.markers.append(info)
    for run_id, info in state.heartbeats.items():
        if run_id != runs.last and runs.is_over(run_id):
            found.heartbeats.append(info)
    return found


def _published(output_keys: Iterable[str], manifest: Manifest, storage: Storage) -> set[str]:
    """Those of finished outputs that stand under their names."""
    receipts = list(manifest.outputs(output_keys))
    standing = storage.find(receipt.output for receipt in receipts)
    return {receipt.key for receipt in receipts if receipt.is_of(standing.get(receipt.output))}


def _add_worthless(found: _Leftovers, output: _Output, runs: _Runs, manifest: Manifest) -> None:
    """Adds what an output that is not finished cannot be made of, though it lies there."""
    parts = {info.key: info for info in output.all_parts}
    suspects = output.receipts.keys() - output.parts.keys()
    for segment_key, of_segment in output.parts.items():
        if any(runs.is_over(run_of(info.key)) for info in of_segment):
            suspects.add(segment_key)
    for segment_key, receipt in _receipts(sorted(suspects), manifest):
        meant = manifest.part_key(segment_key, receipt.part_name) if receipt else ""
        found.parts += [
            info
            for info in output.parts.get(segment_key, ())
            if info.key != meant and runs.is_over(run_of(info.key))
        ]
        is_gone = receipt is not None and meant not in parts and runs.is_over(run_of(meant))
        # It is looked at once more, as it may have been committed while the listing was read.
        if is_gone and segment_key in output.receipts and manifest.committed(segment_key) is None:
            found.receipts.append(output.receipts[segment_key])


def _receipts(segment_keys: Sequence[str], manifest: Manifest) -> Iterator[tuple[str, SegmentReceipt | None]]:
    return zip(segment_keys, in_parallel(manifest.receipt, segment_keys), strict=True)


def _begun_s(run_id: str) -> float | None:
    """When a run began, as its name says, in seconds since 1970; None where it is no name of a run."""
    try:
        return datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None

"""Publishes what lies in the aggregator's folders for boxes, keeps what they answer. Runs in: ingest, writer thread.

Everything is retained, and said again with each link: a broker that forgets costs nothing. Of the jobs
of a node the next one, by its counter, follows when the one before is done, refused or begun: a box
takes none with a lower counter than one that it took. What boxes say is bounded by what was asked of
them, and costs one small file a step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from brainforge_edge.cloud.store.outbound import Job, Outbound, read_reported, read_status
from brainforge_edge.core import log, topics
from brainforge_edge.core.errors import BrainforgeError, StorageError
from brainforge_edge.core.wire import JobStatus, Reported
from brainforge_edge.storage.files import Disk

LOOK_S = 1.0
AGAIN_S = 60.0  # what is not answered is said again
RETAINED_NS = 30 * 86_400 * 10**9  # after the end of a job its retained message is still cleared
KEEP_S = 5.0  # what one box reports is kept no more often; killed before, it is had again with the next link
MOST_HEARD = 64  # answers that wait to be kept
MOST_BYTES = 1024 * 1024
FINAL = {"done", "refused"}
_Version = tuple[int, int] | None


class Retain(Protocol):
    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> bool: ...


class Dispatch:
    """`step` by the writer; `hear` what boxes say."""

    def __init__(
        self, root: Path, post: Retain, *, disk: Disk, utc_ns: Callable[[], int | None]
    ) -> None:
        self._outbound = Outbound(root, disk)
        self._post = post
        self._utc_ns = utc_ns
        self._look_due = self._again_due = 0.0
        self._said: dict[str, _Version] = {}  # topic → the file, as it was published on this link
        self._jobs: dict[str, tuple[_Version, Job | None]] = {}
        self._statuses: dict[tuple[str, str], JobStatus | None] = {}  # job, node → as it is kept
        self._reported: dict[str, Reported | None] = {}
        self._heard: dict[tuple[str, str], bytes] = {}  # job or "", node → not kept yet
        self._keep_due: dict[str, float] = {}  # node → when what it reports may be kept again
        self._log = log.get(part="dispatch")

    def restart(self) -> None:
        """A new link: say everything."""
        self._said.clear()
        self._look_due = 0.0

    def hear(self, node: str, kind: str, job: str, payload: bytes) -> str:
        """What a box says on `reported` or `job/{id}/status`; why it is ignored, or ""."""
        if len(payload) > MOST_BYTES:
            return "oversize_report"
        said = read_status(payload) if kind == topics.JOB_STATUS else read_reported(payload)
        if said is None or said.node != node:
            return "malformed_report"
        if isinstance(said, Reported):
            is_asked = not job and self._outbound.version("desired", node) is not None
        else:
            known = self._jobs.get(job, (None, None))[1]
            is_asked = said.job == job and known is not None and node in known.boxes
        if not is_asked:
            return "unasked_report"
        if len(self._heard) >= MOST_HEARD and (job, node) not in self._heard:
            return "too_many_reports"
        self._heard[job, node] = payload
        return ""

    def step(self, now: float) -> None:
        """Keep one answer; once a second, look for what is to be published."""
        try:
            self._keep_one(now)
            if now >= self._look_due:
                self._look_due = now + LOOK_S
                if now >= self._again_due:
                    self._again_due = now + AGAIN_S
                    self._forget_unanswered()
                self._look()
        except StorageError as error:
            self._log.error("desired states or jobs not published", error=str(error))
            self._look_due = now + AGAIN_S

    def _keep_one(self, now: float) -> None:
        due = (each for each in self._heard if each[0] or now >= self._keep_due.get(each[1], now))
        job, node = next(due, (None, ""))
        if job is None:
            return
        payload = self._heard.pop((job, node))
        if job:
            said, known = read_status(payload), self._status(job, node)
            is_newer = known is None or known.state != "done"
            if said is not None and is_newer and said != known:
                self._outbound.keep_status(said, payload)
                self._statuses[job, node] = said
                self._look_due = 0.0  # the next job may follow
        else:
            told = read_reported(payload)
            if told is not None and told != self._told(node):
                self._keep_due[node] = now + KEEP_S
                self._outbound.keep_reported(told, payload)
                self._reported[node] = told

    def _look(self) -> None:
        for node in self._outbound.nodes():
            topic = topics.desired(node)
            version = self._outbound.version("desired", node)
            if self._said.get(topic) == version:
                continue
            try:
                found = self._outbound.desired(node)
            except BrainforgeError as error:
                self._unreadable(topic, version, error)
                continue
            if found is not None:
                self._publish(topic, version, msgspec.json.encode(found.file))
        self._look_at_jobs()

    def _look_at_jobs(self) -> None:
        ids = self._outbound.job_ids()
        for job_id in set(self._jobs) - set(ids):
            del self._jobs[job_id]
        for job_id in ids:
            version = self._outbound.version("jobs", job_id)
            if job_id in self._jobs and self._jobs[job_id][0] == version:
                continue
            for known in [each for each in self._statuses if each[0] == job_id]:
                del self._statuses[known]  # added again: what a box refused before is forgotten
            try:
                self._jobs[job_id] = (version, self._outbound.job(job_id))
            except BrainforgeError as error:
                self._jobs[job_id] = (version, None)
                self._log.error("job not published", job=job_id, error=str(error))
        jobs = [(job, version) for version, job in self._jobs.values() if job is not None]
        jobs.sort(key=lambda each: each[0].order.counter)
        busy: set[str] = set()  # nodes that have a job to begin with
        for job, version in jobs:
            for node in job.boxes:
                self._job(job, version, node, busy)

    def _job(self, job: Job, version: _Version, node: str, busy: set[str]) -> None:
        topic = topics.job(node, job.file.id)
        said = self._status(job.file.id, node)
        utc_ns = self._utc_ns()
        is_expired = utc_ns is not None and utc_ns >= job.order.expires_utc_ns
        if is_expired or (said is not None and said.state in FINAL):
            is_recent = utc_ns is None or utc_ns < job.order.expires_utc_ns + RETAINED_NS
            if is_recent and self._said.get(topic, version) is not None:
                self._publish(topic, None, b"")  # what was retained is not needed any more
            return
        if node not in busy:
            if self._said.get(topic) != version:
                self._publish(topic, version, msgspec.json.encode(job.file))
            if said is None or said.state == "waiting":
                busy.add(node)

    def _publish(self, topic: str, version: _Version, payload: bytes) -> None:
        if self._post(topic, payload, retain=True):
            self._said[topic] = version

    def _forget_unanswered(self) -> None:
        for node in self._outbound.nodes():
            said = self._told(node)
            found = self._outbound.version("desired", node)
            if found is not None and (said is None or said.untaken is not None):
                self._said.pop(topics.desired(node), None)
        for job_id, (_, job) in self._jobs.items():
            for node in () if job is None else job.boxes:
                said_of = self._status(job_id, node)
                if said_of is None or said_of.state not in FINAL:
                    self._said.pop(topics.job(node, job_id), None)

    def _status(self, job: str, node: str) -> JobStatus | None:
        if (job, node) not in self._statuses:
            self._statuses[job, node] = self._outbound.status(job, node)
        return self._statuses[job, node]

    def _told(self, node: str) -> Reported | None:
        if node not in self._reported:
            self._reported[node] = self._outbound.reported(node)
        return self._reported[node]

    def _unreadable(self, topic: str, version: _Version, error: BrainforgeError) -> None:
        self._said[topic] = version
        self._log.error("desired state not published", topic=topic, error=str(error))

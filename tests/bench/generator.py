"""A load as a process of its own: a job as JSON on stdin, its outcome on stdout.

One socket, one thread, no library in between. What it can do at most is measured in every run (`floors.ceiling`).
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import time
from array import array

from tests.bench import packets
from tests.bench.jobs import Job, Outcome, percentile

_READ_BYTES = 1 << 18
_DIGITS = 9
_HEAD_BYTES = 1000  # an answer's status stands in its head: a megabyte of result is not searched


class Load:
    """One job, run once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._label = f"{os.getpid():x}.{time.monotonic_ns():x}"
        self._number_of = re.compile(rb'"request_id": ?"%s-(\d{%d})"' % (re.escape(self._label.encode()), _DIGITS))
        self._failure = re.compile(rb'"status": ?"error"')
        self._before, self._after = self._payload_around_number()
        self._head = packets.publish_head(
            job.request_topic, job.qos, len(self._before) + _DIGITS + len(self._after)
        )  # fmt: skip
        self._in, self._out = bytearray(), bytearray()
        self._begun = array("d")  # when each request was sent (closed) or due (open)
        self._done = array("d")  # when it was answered; 0: not yet
        self._lags = array("d")
        self._answered = 0
        self._doubled = self._failed = self._strays = 0

    def run(self) -> Outcome:
        """Connect, load, wait for what is missing, and count."""
        job = self._job
        with socket.create_connection(("127.0.0.1", job.port), timeout=10) as self._socket:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._introduce()
            self._socket.setblocking(False)
            self._poll = select.poll()
            self._watch(writing=False)
            start, cpu_s = time.perf_counter(), time.process_time()
            if job.rate:
                self._run_open(start)
            else:
                self._run_closed(start)
            end = time.perf_counter()
            busy = (time.process_time() - cpu_s) / (end - start)
            self._wait_for_rest()
            self._socket.setblocking(True)
            self._socket.sendall(packets.DISCONNECT)
        return self._outcome(start, end, busy)

    # --- the two loops --------------------------------------------------------------------------------------------

    def _run_closed(self, start: float) -> None:
        job = self._job
        stop = start + job.warmup_s + job.duration_s
        most = job.count or sys.maxsize
        heard = now = start
        while not self._is_over(now, stop) and now - heard < job.patience_s:
            missing = min(job.in_flight - (len(self._begun) - self._answered), most - len(self._begun))
            if missing > 0:
                now = time.perf_counter()  # what was read since the answers came belongs to no request
                for _ in range(missing):
                    self._request(now)
            answered = self._answered
            now = self._exchange(min(stop - now, 0.5) if not job.count else 0.5)
            if self._answered > answered:
                heard = now

    def _run_open(self, start: float) -> None:
        job = self._job
        stop = start + job.warmup_s + job.duration_s
        due, now = start, time.perf_counter()
        while not self._is_over(now, stop):
            while due <= now and (not job.count or len(self._begun) < job.count):
                self._request(due)
                self._lags.append(now - due)
                due = start + len(self._begun) / job.rate
            now = self._exchange(max(0.0, min(due, stop) - now))
            if job.count and len(self._begun) >= job.count:
                return

    def _is_over(self, now: float, stop: float) -> bool:
        return self._answered >= self._job.count if self._job.count else now >= stop

    def _wait_for_rest(self) -> None:
        heard, answered = time.perf_counter(), self._answered
        while self._answered < len(self._begun) and time.perf_counter() - heard < self._job.patience_s:
            now = self._exchange(0.1)
            if self._answered > answered:
                heard, answered = now, self._answered
        until = time.perf_counter() + self._job.linger_s
        while (left := until - time.perf_counter()) > 0:
            self._exchange(left)

    # --- the socket -----------------------------------------------------------------------------------------------

    def _introduce(self) -> None:
        self._socket.sendall(packets.connect(f"load-{self._label}"))
        self._expect(0x20, 3, "the broker refuses the connection")
        self._socket.sendall(packets.subscribe(self._job.answer_topic, self._job.qos))
        self._expect(0x90, 4, "the broker refuses the subscription")

    def _expect(self, kind: int, at: int, complaint: str) -> None:
        """Read one short packet; its byte at `at` is 128 or more, or for CONNACK not 0, where it is a refusal."""
        reply = self._socket.recv(at + 1, socket.MSG_WAITALL)
        if len(reply) <= at or reply[0] != kind or (reply[at] if kind == 0x20 else reply[at] >= 0x80):
            raise ConnectionError(complaint)

    def _watch(self, *, writing: bool) -> None:
        self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if writing else 0))

    def _request(self, begun: float) -> None:
        number = len(self._begun)
        self._begun.append(begun)
        self._done.append(0.0)
        out = self._out
        out += self._head
        if self._job.qos:
            out += (number % 65_535 + 1).to_bytes(2, "big")
        out += self._before
        out += b"%09d" % number
        out += self._after

    def _exchange(self, timeout_s: float) -> float:
        """Send what is due, then wait for something to come, at most so long; returns when it came."""
        self._flush()
        if self._out:
            self._watch(writing=True)
        # poll counts milliseconds, and would round a wait of less up: select takes it as it is.
        if 0 < timeout_s < 0.01 and not self._out:
            ready = bool(select.select([self._socket], [], [], timeout_s)[0])
        else:
            ready = any(event & ~select.POLLOUT for _, event in self._poll.poll(timeout_s * 1000))
        if self._out:
            self._watch(writing=False)
        if not ready:
            return time.perf_counter()
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return time.perf_counter()
        now = time.perf_counter()
        if not data:
            raise ConnectionError("the broker has closed the connection")
        self._in += data
        self._take(now)
        return now

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                return
            del self._out[:sent]

    def _take(self, now: float) -> None:
        """Match every whole packet that has come; acknowledge what asks for it."""
        data, out, done, at = self._in, self._out, self._done, 0
        while found := packets.frame(data, at):
            body, end = found
            kind = data[at]
            at = end
            if kind & 0xF0 != packets.PUBLISH:
                continue
            payload = body + 2 + (data[body] << 8 | data[body + 1])
            if kind & packets.ANY_QOS:
                out += packets.ACKNOWLEDGEMENT
                out += data[payload : payload + 2]
                payload += 2
            label = self._number_of.search(data, payload, end)
            number = int(label[1]) if label else len(done)
            if number >= len(done):
                self._strays += 1
            elif done[number]:
                self._doubled += 1
            else:
                done[number] = now
                self._answered += 1
                if self._failure.search(data, payload, min(end, payload + _HEAD_BYTES)):
                    self._failed += 1
        del data[:at]

    # --- counting -------------------------------------------------------------------------------------------------

    def _payload_around_number(self) -> tuple[bytes, bytes]:
        before = b'{"request_id":"%s-' % self._label.encode()
        if not self._job.size:
            return before, b'","args":[%s]}' % self._job.args.encode()
        rest = self._job.size - len(before) - _DIGITS - len(b'","args":[""]}')
        return before, b'","args":["%s"]}' % (b"x" * max(0, rest))

    def _outcome(self, start: float, end: float, busy: float) -> Outcome:
        begun, done = self._begun, self._done
        if self._job.count:
            first, last = start, max(done, default=end) or end
        else:
            first, last = start + self._job.warmup_s, end
        latencies = sorted(
            to - since for since, to in zip(begun, done, strict=True) if to and (self._job.count or since >= first)
        )
        return Outcome(
            sent=len(begun),
            lost=len(begun) - self._answered,
            doubled=self._doubled,
            failed=self._failed,
            strays=self._strays,
            seconds=last - first,
            answered=sum(first <= to <= last for to in done),
            lag_s=percentile(sorted(self._lags), 99) if self._lags else 0.0,
            busy=busy,
            latencies_s=array("d", latencies),
        )


if __name__ == "__main__":
    import json

    outcome = Load(Job(**json.load(sys.stdin))).run()
    sys.stdout.buffer.write(outcome.dump())

"""`make demo`: the whole ticket office on this machine, until Ctrl-C.

Starts PostgreSQL, Valkey and the offline Stripe, fills in the demo, starts web, worker and beat, and keeps
all of them running. Everything it writes lies in `var/`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.local import ports, processes, summary
from deploy.local.control import ControlSocket
from deploy.local.guard import Guard
from deploy.local.interrupts import Interrupts, StopRequested
from deploy.local.parts import STOP_STAGES, Part, announcement, build_parts, end_together, get
from deploy.local.plan import ROOT, Plan, PlanError, Stripe, make_plan
from deploy.local.screen import Screen
from deploy.local.var_folder import DemoIsRunning, VarFolder

READY_SECONDS = 90.0
FILL_SECONDS = 300.0
ALL_WELL_SECONDS = 3.0  # the first heartbeats may take longer; sales do not wait for them
PULSE_SECONDS = 0.25


class StartFailed(RuntimeError):
    """A part did not come up; `tail` is the end of its log."""

    def __init__(self, message: str, tail: list[str] | None = None) -> None:
        super().__init__(message)
        self.tail = tail or []


class Supervisor:
    def __init__(self, plan: Plan, screen: Screen, lock: int) -> None:
        self.plan = plan
        self.screen = screen
        self.interrupts = Interrupts()
        self.parts = build_parts(plan)
        self.filled: dict[str, Any] = {}
        self.guard = Guard(plan.var, lock, plan.common_env())
        self.is_up = False

    def run(self, *, as_json: bool) -> int:
        self.interrupts.install()
        control = ControlSocket(self.plan.var.socket)
        try:
            self.guard.keep_alive()
            self.bring_up()
            self.is_up = True
            self.announce(as_json=as_json)
            self.watch(control)
        except StopRequested:
            self.screen.line()
            self.screen.event("Stopping (once more to stop at once) ...")
            return 0
        except StartFailed as failure:
            self.screen.error(f"\nThe demo could not start: {failure}", failure.tail)
            return 1
        finally:
            self.bring_down()
            control.close()
        return 0

    # --- start ---------------------------------------------------------------------------------------

    def bring_up(self) -> None:
        for role, variable in self.plan.external.items():
            self.screen.done(f"{role}: yours ({variable} is set)")
        services = [self.parts[role] for role in ("postgres", "redis", "stripe") if role in self.parts]
        self.start_and_wait(services)
        self.know_stripe()
        self.fill()
        self.start_and_wait([self.parts[role] for role in ("web", "worker", "beat", "mailbox")])
        self.wait_until_ready()

    def start_and_wait(self, parts: list[Part]) -> None:
        """All at once, then wait for each; from this thread, as children end with the one that made them."""
        for part in parts:
            self.spawn(part)
        for part in parts:
            deadline = time.monotonic() + READY_SECONDS
            while not part.is_ready():
                if part.pid is None:
                    raise StartFailed(f"{part.title} ended (log: {part.log})", part.tail(12))
                if time.monotonic() > deadline:
                    raise StartFailed(f"{part.title} is not ready after {READY_SECONDS:.0f} s", part.tail(12))
                self.interrupts.pause(0.03)
            self.screen.done(f"{part.title} (pid {part.pid})")

    def know_stripe(self) -> None:
        if "stripe" not in self.parts:
            return
        told = announcement(self.parts["stripe"])
        assert told is not None, "it is ready only once it has told"
        self.plan.stripe = Stripe(
            api_base=told["api_base"],
            js_url=told["stripe_js_url"],
            secret_key=self.plan.secrets.stripe_secret_key,
            publishable_key=self.plan.secrets.stripe_publishable_key,
            webhook_secrets=self.plan.secrets.stripe_webhook_secret,
            dashboard_url=told["dashboard_url"],
            control_url=told["control_url"],
        )

    def fill(self) -> None:
        """Migrate, collect static files and fill in the demo: one process, whose progress is shown."""
        self.screen.step("..  database, static files, demo events")
        log = self.plan.var.log("demo_data")
        log.unlink(missing_ok=True)
        with tempfile.TemporaryFile() as answer, log.open("ab") as progress:
            filler = self.plan_filler(answer.fileno(), progress.fileno())
            child = filler.spawn()
            self.guard.watch(child.leader, filler.stop_signal)
            try:
                self.follow(filler)
            finally:
                child.kill()
                self.guard.forget(child.leader)
            answer.seek(0)
            lines = answer.read().decode(errors="replace").strip().splitlines()
        if child.popen.returncode != 0 or not lines:
            raise StartFailed(f"filling in the demo failed (log: {log})")  # it has told why already
        try:
            self.filled = dict(json.loads(lines[-1]))
        except ValueError:
            raise StartFailed("manage.py demo_data did not end with a line of JSON", lines[-5:]) from None
        self.screen.done("Demo data")

    def plan_filler(self, answer: int, progress: int) -> Part:
        def start() -> processes.Child:
            env = self.plan.product_env("command")
            return processes.spawn(self.plan.demo_data_command(), output=answer, errors=progress, env=env, cwd=ROOT)

        return Part("demo_data", "Demo data", self.plan.var.log("demo_data"), start, lambda: True)

    def follow(self, part: Part) -> None:
        shown = 0
        deadline = time.monotonic() + FILL_SECONDS
        while True:
            is_over = part.pid is None
            lines = part.output().splitlines(keepends=True)
            for line in lines[shown:]:
                if line.endswith("\n") or is_over:
                    self.screen.detail(line.rstrip())
                    shown += 1
            if is_over:
                return
            if time.monotonic() > deadline:
                raise StartFailed(f"filling in the demo takes more than {FILL_SECONDS:.0f} s", part.tail())
            self.interrupts.pause(0.05)

    def wait_until_ready(self) -> None:
        """`/readyz/` must answer 200; a "degraded" of the first seconds is a heartbeat still to come."""
        url = self.plan.base_url + "/readyz/"
        began = time.monotonic()
        while True:
            status, body = get(url)
            waited = time.monotonic() - began
            report = _readiness(body)
            if status == 200 and (report.get("status") != "degraded" or waited > ALL_WELL_SECONDS):
                break
            if waited > READY_SECONDS:
                raise StartFailed(f"{url} answers {status or 'nothing'}", self.parts["web"].tail(12))
            self.interrupts.pause(0.2)
        failing = [name for name, check in report.get("checks", {}).items() if not check.get("ok")]
        self.screen.done("Ready to sell" + (f" (warming up: {', '.join(failing)})" if failing else ""))

    def announce(self, *, as_json: bool) -> None:
        self.write_demo_json()
        if as_json:
            content = summary.demo_json(self.plan, self.parts, self.filled)
            with contextlib.suppress(OSError):
                print(json.dumps(content), flush=True)
        else:
            summary.show(self.screen, self.plan, self.filled)

    def write_demo_json(self) -> None:
        if self.is_up:
            self.plan.var.write_demo_json(summary.demo_json(self.plan, self.parts, self.filled))

    # --- while it runs -------------------------------------------------------------------------------

    def spawn(self, part: Part) -> None:
        try:
            self.guard.watch(part.spawn().leader, part.stop_signal)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise StartFailed(f"{part.title}: {error}", part.tail()) from error

    def watch(self, control: ControlSocket) -> None:
        while True:
            if self.interrupts.pause(PULSE_SECONDS, readable=control.fileno()):
                control.answer(self.handle)
            self.guard.keep_alive()
            for part in self.parts.values():
                self.look_after(part)

    def look_after(self, part: Part) -> None:
        if part.child is not None and not part.child.is_running:
            self.mourn(part)
        elif part.restart_at is not None and time.monotonic() >= part.restart_at:
            self.revive(part)

    def mourn(self, part: Part) -> None:
        assert part.child is not None
        how = _how_it_ended(part.child.popen.returncode)
        part.child.kill()  # its orphans must not hold the port, or work for nobody
        self.guard.forget(part.child.leader)
        part.child = None
        delay = part.note_failure()
        self.screen.event(f"{part.title} ended ({how}); starting it again in {delay:.0f} s", part.tail())
        self.write_demo_json()

    def revive(self, part: Part) -> None:
        try:
            self.spawn(part)
        except StartFailed as failure:
            delay = part.note_failure()
            self.screen.event(f"{failure}; trying again in {delay:.0f} s", failure.tail)
        else:
            self.screen.event(f"{part.title} is back (pid {part.pid})")
        self.write_demo_json()

    # --- requests from `deploy.local.control` -----------------------------------------------------------

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        action, role = request.get("action"), request.get("role")
        if action == "status":
            rows = [{"role": part.role, "state": part.state, "pid": part.pid} for part in self.parts.values()]
            return {"ok": True, "message": self.plan.base_url, "parts": rows}
        part = self.parts.get(str(role))
        if part is None:
            return {"ok": False, "message": f"There is no part {role!r}; there are {', '.join(self.parts)}."}
        if action in ("stop", "restart"):
            self.stop_part(part)
        if action in ("start", "restart"):
            return self.start_part(part)
        return {"ok": True, "message": f"{part.title} is stopped, until you start it."}

    def stop_part(self, part: Part) -> None:
        part.restart_at = None
        if part.child is not None:
            child = part.child
            end_together([part], lambda: self.interrupts.is_urgent)
            self.guard.forget(child.leader)
            self.screen.event(f"{part.title} stopped by request")
        self.write_demo_json()

    def start_part(self, part: Part) -> dict[str, Any]:
        if part.pid is not None:
            return {"ok": True, "message": f"{part.title} runs already (pid {part.pid})."}
        part.failures = 0
        try:
            self.start_and_wait([part])
        except StartFailed as failure:
            return {"ok": False, "message": str(failure)}
        finally:
            self.write_demo_json()
        return {"ok": True, "message": f"{part.title} runs (pid {part.pid})."}

    # --- end -----------------------------------------------------------------------------------------

    def bring_down(self) -> None:
        """Nothing but a second wish interrupts this: see `Interrupts`."""
        self.plan.var.forget_demo_json()
        for stage in STOP_STAGES:
            parts = [self.parts[role] for role in stage if role in self.parts]
            end_together(parts, lambda: self.interrupts.is_urgent)
        self.guard.dismiss()
        self.screen.step("Stopped. Nothing is left running.")


def _readiness(body: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(body))
    except ValueError:
        return {}


def _how_it_ended(returncode: int | None) -> str:
    return f"signal {-returncode}" if returncode is not None and returncode < 0 else f"exit code {returncode}"


def choose_web_port(wanted: int, screen: Screen) -> int:
    port = ports.next_free(wanted)
    if port != wanted:
        screen.step(f"..  port {wanted} is taken, so this is {port}")
    return port


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.supervisor",
        description="Runs the whole ticket office on this machine until Ctrl-C.",
        epilog="With DATABASE_URL, REDIS_URL or STRIPE_SECRET_KEY (with STRIPE_PUBLISHABLE_KEY and "
        "STRIPE_WEBHOOK_SECRETS) in the environment, those are used instead of the embedded ones.",
    )
    parser.add_argument("--port", type=int, default=8000, help="web port; the next free one if taken (8000)")
    parser.add_argument("--var", type=Path, default=ROOT / "var", help="folder for all data (var)")
    parser.add_argument("--reset", action="store_true", help="erase the demo's data first")
    parser.add_argument("--no-colour", "--no-color", action="store_true", help="plain text")
    parser.add_argument("--json", action="store_true", help="when ready, print demo.json as one line on stdout")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    os.umask(0o077)
    screen = Screen(sys.stderr if options.json else sys.stdout, colour=False if options.no_colour else None)
    var = VarFolder(options.var)
    try:
        lock = var.lock()
    except DemoIsRunning as running:
        screen.error(f"A demo is already running here (pid {running}). Its links are in {var.demo_json}.")
        return 1
    if options.reset:
        var.wipe()
    var.prepare()
    screen.line(screen.style("Counterfoil demo", "bold"))
    try:
        plan = make_plan(var, choose_web_port(options.port, screen))
    except (PlanError, RuntimeError) as error:
        screen.error(str(error))
        return 1
    return Supervisor(plan, screen, lock).run(as_json=options.json)


if __name__ == "__main__":
    raise SystemExit(main())

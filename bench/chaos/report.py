"""How a campaign went, for reading."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

from .campaign import Report

SHOWN = 20
"""Findings shown in full."""


def lines(report: Report) -> list[str]:
    """Return the report."""
    turns, findings = report.turns, report.findings
    counts = [f"{len(getattr(findings, kind.name))} {kind.name}" for kind in fields(findings)]
    plan = report.plan
    return [
        f"seed {plan.seed}: {plan.conversations} conversations, {plan.workers} clients, {report.seconds:.0f} s",
        f"turns: {turns['acked']} acknowledged ({_counted(report.kinds)}), {report.resumed} of them resumed; "
        f"{turns['failed']} failed, {turns['cancelled']} cancelled, {turns['killed']} cut by a kill, "
        f"{turns['dropped']} dropped, {turns['struck']} struck by a signal "
        f"({report.struck_and_stored} of them stored); {turns['answered']} answered in forked children",
        f"failed with: {_counted(report.failures)}",
        f"requests: {report.requests.total()} ({_counted(report.requests)})",
        f"faults: {report.injected} ({_counted(report.faults)})",
        *(f"TOO LITTLE: {what}" for what in report.short),
        ", ".join(counts),
        *findings.lines()[:SHOWN],
        *([f"… {findings.total - SHOWN} more"] if findings.total > SHOWN else []),
    ]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())

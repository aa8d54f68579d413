"""`langchain-qwen doctor`: how a model would run here, what would be slow, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from langchain_qwen.cli.doctor.facts import Cache, Facts
from langchain_qwen.cli.doctor.fit import CPU_ENGINE
from langchain_qwen.cli.doctor.report import Finding, Report, advise, examine, gigabytes
from langchain_qwen.cli.terminal import show, waiting

# Folders of the cache whose files are many and have no names that tell anybody anything.
_IN_TOTAL = {"packed": "packed weights", "prefixes": "kept beginnings of prompts"}
_MARKS = {"problem": ("✗", "red"), "slow": ("!", "yellow"), "hint": ("·", "dim")}
_HUB = {"reachable": "answers", "off": "is not asked (HF_HUB_OFFLINE)", "out of reach": "is out of reach"}


def doctor(model: str, *, as_json: bool) -> bool:
    """Print the report.

    Args:
        model: Whose use to judge.
        as_json: For machines rather than people.

    Returns:
        Whether the model can be used.
    """
    with waiting("Looking around"):
        report = examine(model)
    findings = advise(report)
    usable = not any(level == "problem" for level, _, _ in findings)
    if as_json:
        told = [dict(zip(("level", "what", "todo"), finding, strict=True)) for finding in findings]
        about = {**asdict(report), "engine": dict(zip(("name", "why"), report.engine, strict=True))}
        show(json.dumps({**about, "findings": told, "usable": usable}, indent=2, ensure_ascii=False))
        return usable
    show(_facts(report))
    show("")
    if report.fits:
        show(_precisions(report))
        for todo in dict.fromkeys(fit.missing for fit in report.fits if fit.missing):
            show(Text(f"missing: {todo}", style="dim"))
        show("")
    show(_findings(findings))
    show("")
    engine = f" by the {CPU_ENGINE}" if report.chosen and report.chosen.runs_on == CPU_ENGINE else ""
    runs, name = f"runs here: {report.precision} on {report.device}{engine}", report.model
    verdict = Text(f"{name} {runs}." if usable else f"{name} cannot be used here yet.")
    verdict.stylize("bold green" if usable else "bold red")
    show(verdict)
    return usable


def _facts(report: Report) -> Table:
    facts, table = report.facts, Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    free, total, speed = map(gigabytes, (facts.memory_free, facts.memory_total, facts.read_bandwidth))
    threads = "" if facts.torch_threads is None else f"; torch threads {facts.torch_threads}"
    for name, value in (
        ("model", f"{report.model}: {report.folder or 'not on this machine'}"),
        ("device", f"{report.device} (torch sees {facts.gpus[0].name if facts.gpus else 'no GPU'})"),
        ("precision", f"{report.precision} (what auto takes here)"),
        ("engine", "{}: {}".format(*report.engine)),
        ("CPU", f"{facts.cpu}, {', '.join(facts.instruction_sets) or 'no instruction sets that help'}"),
        ("cores", f"{facts.physical_cores}, usable {facts.usable_cores}{threads}"),
        ("memory", f"{free} free of {total}, now read at {speed}/s"),
        *(("GPU", _gpu(gpu.name, gpu.memory_free, gpu.memory_total)) for gpu in facts.gpus),
        ("CPU engine", _engine(facts)),
        ("torch build", facts.torch_build or "not installed"),
        ("system", facts.system),
        ("packages", ", ".join(f"{name} {version or 'missing'}" for name, version in facts.packages.items())),
        ("extras", ", ".join(f"{name} {'' if there else 'not '}installed" for name, there in facts.extras.items())),
        ("cache", _cache(facts.own_cache)),
        ("hub cache", _cache(facts.hub_cache)),
        ("hub", f"{facts.hub} {_HUB[facts.hub_state]}"),
    ):
        table.add_row(name, Text(value))
    return table


def _gpu(name: str, free: int | None, total: int | None) -> str:
    return name if free is None or total is None else f"{name}, {gigabytes(free)} free of {gigabytes(total)}"


def _engine(facts: Facts) -> str:
    if not facts.engine_built:
        return "not built"
    if facts.engine_error is not None:
        return "built, does not load"
    differing = f"; left out, since they compute other numbers here: {', '.join(facts.differing_kernels)}"
    return f"built, {facts.kernels} kernels" + (differing if facts.differing_kernels else "")


def _cache(cache: Cache) -> str:
    folders = {name: name.partition("/")[0] for name in cache.contents}
    held = [f"{name} {gigabytes(size)}" for name, size in cache.contents.items() if folders[name] not in _IN_TOTAL]
    for folder, title in _IN_TOTAL.items():
        if sizes := [size for name, size in cache.contents.items() if folders[name] == folder]:
            held.append(f"{title} {gigabytes(sum(sizes))} in {len(sizes)} files")
    return f"{cache.folder}, {gigabytes(cache.disk_free)} left on its disk: {', '.join(held) or 'empty'}"


def _precisions(report: Report) -> Table:
    table = Table("precision", "runs on", box=None, header_style="bold", pad_edge=False)
    for title in ("weights", "full window", "context that fits", "tokens/s up to"):
        table.add_column(title, justify="right")
    for fit in report.fits:
        table.add_row(
            fit.precision + (" (auto)" if fit is report.chosen else ""),
            Text(f"{fit.runs_on}{' (missing)' if fit.missing else ''}"),
            gigabytes(fit.weight_bytes),
            f"+ {gigabytes(fit.window_bytes)}",
            f"{fit.context_tokens:,} tokens" if fit.context_tokens else "none: too large",
            "" if fit.tokens_per_second is None else f"{fit.tokens_per_second:.1f}",
            style="dim" if fit.missing or not fit.context_tokens else None,
        )
    return table


def _findings(findings: Sequence[Finding]) -> Text:
    """Not a table: what is to be copied into a shell must not be cut into lines."""
    if not findings:
        return Text("Nothing to complain of.")
    return Text("\n").join(
        Text.assemble((mark, style), f"  {what}\n   ", (f"→ {todo}", "bold"))
        for (mark, style), what, todo in ((_MARKS[level], what, todo) for level, what, todo in findings)
    )

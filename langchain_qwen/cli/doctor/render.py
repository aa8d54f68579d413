"""The report for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from langchain_qwen.cli.doctor.advice import Finding, gigabytes
from langchain_qwen.cli.doctor.fit import CPU_ENGINE, Fit
from langchain_qwen.cli.doctor.report import Report
from langchain_qwen.cli.doctor.storage import Cache
from langchain_qwen.cli.terminal import show

# Folders of the cache whose files are many and have no names that tell anybody anything.
_IN_TOTAL = {"packed": "packed weights", "prefixes": "kept beginnings of prompts"}
MARKS = {"problem": ("✗", "red"), "slow": ("!", "yellow"), "hint": ("·", "dim")}


def render(report: Report, findings: Sequence[Finding]) -> None:
    """Print facts, precisions and findings."""
    show(_facts(report))
    if report.fits:
        show("")
        show(_precisions(report))
    show("")
    show(_findings(findings))
    usable = not any(finding.level == "problem" for finding in findings)
    engine = report.chosen.runs_on if report.chosen else ""
    where = f"{report.precision} on {report.device}" + (f" by the {engine}" if engine == CPU_ENGINE else "")
    show("")
    verdict = f"{report.model.name} runs here: {where}." if usable else f"{report.model.name} cannot be used here yet."
    show(Text(verdict, style="bold green" if usable else "bold red"))


def _facts(report: Report) -> Table:
    machine, software, storage = report.machine, report.software, report.storage
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("model", f"{report.model.name}: {report.model.folder or 'not on this machine'}"),
        ("device", f"{report.device} ({_device_reason(report)})"),
        ("precision", f"{report.precision} (what auto takes here)"),
        ("CPU", f"{machine.cpu}, {', '.join(machine.instruction_sets) or 'no instruction sets that help'}"),
        ("cores", f"{machine.physical_cores}, usable {machine.usable_cores}; torch threads {machine.torch_threads}"),
        (
            "memory",
            f"{gigabytes(machine.memory.available)} free of {gigabytes(machine.memory.total)}, "
            f"now read at {gigabytes(machine.read_bandwidth)}/s",
        ),
        *(("GPU", _gpu(gpu.name, gpu.memory_available, gpu.memory_total)) for gpu in machine.gpus),
        ("CPU engine", _cpu_engine(report)),
        ("torch build", software.torch_build),
        ("system", machine.system),
        ("packages", ", ".join(f"{name} {version or 'missing'}" for name, version in software.versions.items())),
        ("extras", ", ".join(_extra(name, versions) for name, versions in software.extras.items())),
        ("cache", _cache(storage.own)),
        ("hub cache", _cache(storage.hub_cache)),
        ("hub", f"{storage.hub.address} {_hub_state(storage.hub.state)}"),
    ):
        table.add_row(name, Text(value))
    return table


def _device_reason(report: Report) -> str:
    if report.machine.gpus:
        return f"torch sees {report.machine.gpus[0].name}"
    return "torch sees no GPU"


def _gpu(name: str, available: int | None, total: int | None) -> str:
    memory = "" if available is None or total is None else f", {gigabytes(available)} free of {gigabytes(total)}"
    return name + memory


def _cpu_engine(report: Report) -> str:
    engine = report.software.cpu_engine
    if not engine.built:
        return "not built"
    return f"built, {engine.kernels} kernels" if engine.error is None else "built, does not load"


def _extra(name: str, versions: dict[str, str | None]) -> str:
    return f"{name} {'installed' if all(versions.values()) else 'not installed'}"


def _cache(cache: Cache) -> str:
    folders = {name: name.partition("/")[0] for name in cache.contents}
    held = [f"{name} {gigabytes(size)}" for name, size in cache.contents.items() if folders[name] not in _IN_TOTAL]
    for folder, title in _IN_TOTAL.items():
        if sizes := [size for name, size in cache.contents.items() if folders[name] == folder]:
            held.append(f"{title} {gigabytes(sum(sizes))} in {len(sizes)} files")
    return f"{cache.folder}, {gigabytes(cache.disk_free)} left on its disk: {', '.join(held) or 'empty'}"


def _hub_state(state: str) -> str:
    return {"reachable": "answers", "off": "is not asked (HF_HUB_OFFLINE)", "out of reach": "is out of reach"}[state]


def _precisions(report: Report) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("precision")
    table.add_column("runs on")
    table.add_column("weights", justify="right")
    table.add_column("full window", justify="right")
    table.add_column("context that fits")
    table.add_column("tokens/s up to", justify="right")
    for fit in report.fits:
        table.add_row(
            fit.precision + (" (auto)" if fit is report.chosen else ""),
            Text(fit.missing or fit.runs_on),
            gigabytes(fit.weight_bytes),
            f"+ {gigabytes(fit.window_bytes)}",
            _context(fit),
            "" if fit.tokens_per_second is None else f"{fit.tokens_per_second:.1f}",
            style="dim" if fit.missing or not fit.context_tokens else None,
        )
    return table


def _context(fit: Fit) -> str:
    return f"{fit.context_tokens:,} tokens" if fit.context_tokens else "none: too large"


def _findings(findings: Sequence[Finding]) -> Table | str:
    if not findings:
        return "Nothing to complain of."
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = MARKS[finding.level]
        table.add_row(Text(mark, style=style), Text.assemble(finding.what, "\n", ("→ " + finding.todo, "bold")))
    return table

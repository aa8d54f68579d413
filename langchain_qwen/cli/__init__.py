"""`langchain-qwen`: chat, ask, pull, doctor.

Modules that load torch are imported within the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from langchain_qwen._version import __version__
from langchain_qwen.errors import QwenError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Model = Annotated[str, typer.Option("--model", "-m", help="Alias (coder-1.5b), folder or hub id.")]
Precision = Annotated[str, typer.Option("--precision", "-p", help="auto, fp32, bf16, fp16, int8 or int4.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
System = Annotated[str | None, typer.Option("--system", "-s", help="System prompt.")]
Temperature = Annotated[float | None, typer.Option("--temperature", "-t", help="0 is greedy.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "-n", help="Longest answer.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes answers repeatable.")]
DEFAULT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Qwen2.5 on this machine."""
    if version:
        typer.echo(f"langchain-qwen {__version__}")
        raise typer.Exit


@app.command()
def ask(
    question: Annotated[str | None, typer.Argument(help="What to ask; a pipe is read too.")] = None,
    model: Model = DEFAULT_MODEL,
    precision: Precision = "auto",
    device: Device = "auto",
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
) -> None:
    """Answer one question and end. Only the answer goes to standard output."""
    from langchain_qwen.cli.ask import run

    settings = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    run(question, system, model=model, precision=precision, device=device, **settings)


@app.command()
def chat(
    model: Model = DEFAULT_MODEL,
    precision: Precision = "auto",
    device: Device = "auto",
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    load: Annotated[str | None, typer.Option("--load", help="Go on with a chat that /save wrote.")] = None,
) -> None:
    """Chat in the terminal. /help lists the commands; Ctrl-C stops an answer."""
    from langchain_qwen.cli.chat import run

    settings = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    run(system, load, model=model, precision=precision, device=device, **settings)


@app.command()
def pull(
    model: Annotated[str | None, typer.Argument(help="Alias or hub id; without one, the aliases are listed.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a hub id.")] = None,
) -> None:
    """Download a model."""
    from langchain_qwen.checkpoints import RELEASES, alias_folder
    from langchain_qwen.checkpoints import pull as download

    if model is not None:
        typer.echo(download(model, revision=revision))
        return
    for alias, release in RELEASES.items():
        here = "here" if alias_folder(alias).is_dir() else f"{release.gguf_bytes / 1e9:.1f} GB to download"
        typer.echo(f"{alias}  {release.title}  ({here})")


@app.command()
def doctor(
    model: Model = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what this machine is, what would be used, and what would be slow and why."""
    from langchain_qwen.cli.doctor import run

    run(model, as_json=as_json)


def main() -> None:
    """Run the command line; errors of ours are shown without a traceback."""
    try:
        app()
    except QwenError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head -1` has what it wanted
        sys.stderr.close()
        sys.exit(0)

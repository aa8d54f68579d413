"""The commands and their options."""

from __future__ import annotations

import os
import sys
import traceback
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import rich
import typer
from typer.core import TyperGroup

from langchain_qwen._version import __version__
from langchain_qwen.cli.model import ModelOptions
from langchain_qwen.cli.terminal import say
from langchain_qwen.errors import QwenError

DEFAULT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"  # that of ChatQwen, whose module takes seconds to import
INTERRUPTED = 130  # as a shell reports a program that SIGINT ended: 128 plus its number


class ReportingGroup(TyperGroup):
    """Turns what ends a command early into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except QwenError as error:
            if ctx.params["verbose"]:
                traceback.print_exc()
            say(str(error), style="red")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            # `| head -1` has what it wanted. Python flushes stdout once more when it ends, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from error
        except OSError as error:  # most often a full disk under what stdout goes to
            if ctx.params["verbose"]:
                traceback.print_exc()
            say(str(error), style="red")
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=ReportingGroup,
    no_args_is_help=True,
    add_completion=False,
    # Typer's own tracebacks show local variables, which hold the user's messages.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Precision(str, Enum):
    """How weights are held."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"
    int4 = "int4"


Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A hub id, a folder, a GGUF file, or an alias (`langchain-qwen pull` lists them)."
    ),
]
PrecisionOption = Annotated[Precision, typer.Option("--precision", "-p", help="How the weights are held.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
System = Annotated[str | None, typer.Option("--system", "-s", help="Who the model is and how it answers.")]
PersonaOption = Annotated[str | None, typer.Option(help="A built-in persona (/persona lists them), or its file.")]
Language = Annotated[str | None, typer.Option(help="Of the answers: auto, or a code as de or ja.")]
Temperature = Annotated[
    float | None, typer.Option("--temperature", "-t", help="Randomness; 0 gives the most likely answer.")
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "-n", help="The longest answer.")]
Seed = Annotated[int | None, typer.Option(help="The same seed and question give the same answer.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"langchain-qwen {__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    verbose: Annotated[  # noqa: ARG001  read by ReportingGroup
        bool, typer.Option("--verbose", "-v", help="Show where an error comes from. Goes before the command.")
    ] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Qwen2.5 on your own machine."""
    # The console that other parts of the package show progress on: stdout is for answers.
    rich.reconfigure(stderr=True, highlight=False)
    # A character that the terminal's encoding lacks must not end an answer.
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")


@app.command("chat")
def chat_command(
    model: Model = DEFAULT_MODEL,
    precision: PrecisionOption = Precision.auto,
    device: Device = "auto",
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    persona: PersonaOption = None,
    language: Language = None,
    load: Annotated[Path | None, typer.Option(help="Go on with a conversation that /save wrote.")] = None,
) -> None:
    """Chat in the terminal. Ctrl-C stops an answer, Ctrl-D leaves, /help shows the rest."""
    from langchain_qwen.cli.chat import chat
    from langchain_qwen.cli.persona import choose

    chat(
        ModelOptions(model, precision.value, device, temperature, max_tokens, seed),
        system=system,
        persona=choose(persona, language),
        load=load,
    )


@app.command("ask")
def ask_command(
    question: Annotated[list[str] | None, typer.Argument(help="What to ask.", show_default=False)] = None,
    model: Model = DEFAULT_MODEL,
    precision: PrecisionOption = Precision.auto,
    device: Device = "auto",
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    file: Annotated[
        list[Path] | None, typer.Option("--file", "-f", help="A text to ask about; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer is a JSON object.")] = False,
    schema: Annotated[
        Path | None, typer.Option("--schema", help="A file with a JSON Schema; the answer is JSON that fits it.")
    ] = None,
    stream: Annotated[bool, typer.Option(help="Print the answer while it is generated.")] = True,
) -> None:
    """Ask one question; the answer goes to stdout.

    What is piped in comes before the question: cat notes.txt | langchain-qwen ask "Summarise this."
    """
    from langchain_qwen.cli.ask import ask

    ask(
        " ".join(question or ()),
        ModelOptions(model, precision.value, device, temperature, max_tokens, seed),
        system=system,
        files=file or (),
        as_json=as_json,
        schema=schema,
        stream=stream,
    )


@app.command("pull")
def pull_command(
    model: Annotated[str | None, typer.Argument(help="An alias or a hub id; without one, the aliases.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
) -> None:
    """Download a model and print its folder."""
    from langchain_qwen.cli.cache import list_aliases, pull

    if model is None:
        list_aliases()
    else:
        pull(model, revision)


@app.command("list")
def list_command() -> None:
    """Show the models and other files that are kept on this machine."""
    from langchain_qwen.cli.cache import list_kept

    list_kept()


@app.command("remove")
def remove_command(
    name: Annotated[str, typer.Argument(help="A name that `langchain-qwen list` shows.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model, or other files that are kept, from this machine."""
    from langchain_qwen.cli.cache import remove

    remove(name, confirm=lambda question: yes or typer.confirm(question, err=True))


class Method(str, Enum):
    """Ways of quantising that take a text into account."""

    gptq = "gptq"
    int4 = "int4"


@app.command("quantize")
def quantize_command(
    source: Annotated[str, typer.Argument(help="The model: a hub id, a folder, or an alias.", show_default=False)],
    target: Annotated[
        Path,
        typer.Argument(help="The result: a new file NAME.gguf for int4, a new folder for GPTQ.", show_default=False),
    ],
    calibration: Annotated[
        Path | None,
        typer.Option(
            help='Text like that which the model will see: a text file, or .jsonl with a field "text". int4 has a '
            "mix of its own.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[Method, typer.Option(help="How.")] = Method.gptq,
    bits: Annotated[int | None, typer.Option(help="GPTQ: 4 (the default) or 8.", show_default=False)] = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            help="GPTQ: columns that share a scale: 32, 64, 128 (the default), or -1 for all.", show_default=False
        ),
    ] = None,
    act_order: Annotated[bool, typer.Option(help="GPTQ: group the columns by how much they matter.")] = False,
    device: Device = "auto",
) -> None:
    """Quantise a model with a text that it reads first, and report what that costs.

    int4 and int8 need no such step: any model is rounded when it is first loaded. This fits the rounding to a text.
    `--method int4` makes a GGUF file on the CPU in minutes (extra "gguf"), `--method gptq` a GPTQ checkpoint (extra
    "gptq").
    """
    from langchain_qwen.cli.quantize import quantize_gptq, quantize_int4

    if method is Method.int4:
        given = {"--bits": bits, "--group-size": group_size, "--act-order": act_order or None}
        quantize_int4(source, target, calibration, [name for name, value in given.items() if value is not None])
    else:
        quantize_gptq(
            source,
            target,
            calibration=calibration,
            bits=4 if bits is None else bits,
            group_size=128 if group_size is None else group_size,
            act_order=act_order,
            device=device,
        )


@app.command("doctor")
def doctor_command(
    model: Model = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    base_url: Annotated[
        str | None, typer.Option(help="Check a server instead, as http://host:8000/v1, with --model its name there.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="With --base-url: hub id, folder or alias of the model that runs there.")
    ] = None,
) -> None:
    """Show how a model would run here, what would be slow, and what to do about it.

    With --base-url: whether a server can do what is needed. Its key is read from LANGCHAIN_QWEN_API_KEY.
    """
    if base_url is not None:
        from langchain_qwen.cli.doctor.server import doctor_server

        if not doctor_server(base_url, model, tokenizer, as_json=as_json):
            raise typer.Exit(1)
        return
    from langchain_qwen.cli.doctor import doctor

    if not doctor(model, as_json=as_json):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app(prog_name="langchain-qwen")

"""Everything the doctor knows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from langchain_qwen.checkpoints import RELEASES, choose_device, choose_precision, resolve
from langchain_qwen.cli.doctor.fit import KNOWN, Architecture, Fit, fits
from langchain_qwen.cli.doctor.machine import Machine, examine_machine
from langchain_qwen.cli.doctor.software import Software, examine_software
from langchain_qwen.cli.doctor.storage import Storage, examine_storage
from langchain_qwen.errors import CheckpointError, ModelNotFoundError


@dataclass(frozen=True, slots=True)
class Model:
    """A model, as named by the user.

    Attributes:
        name: Its name.
        folder: Where it is; None when it is not here.
        damage: Why it cannot be used although it is here.
        from_hub: Whether the hub would have it.
        download_bytes: What getting it would write to the disk; 0 when it is here, None when unknown.
        quantised: "gptq" or "awq" for a checkpoint that is quantised already.
    """

    name: str
    folder: str | None
    damage: str | None
    from_hub: bool
    download_bytes: int | None
    quantised: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What there is and what would be chosen."""

    model: Model
    device: str
    precision: str
    fits: list[Fit]
    machine: Machine
    software: Software
    storage: Storage

    @property
    def chosen(self) -> Fit | None:
        """The precision that `auto` takes; None where the model's sizes are unknown."""
        return next((fit for fit in self.fits if fit.precision == self.precision), None)


def examine(name: str) -> Report:
    """Look at everything; loads no weights and downloads nothing."""
    machine, software, storage = examine_machine(), examine_software(), examine_storage()
    model, architecture = _find(name)
    device = choose_device("auto")
    native = device == "cpu" and software.cpu_engine.built
    free = machine.memory.available
    if machine.gpus and (gpu_free := machine.gpus[0].memory_available) is not None:
        free = gpu_free
    return Report(
        model=model,
        device=device,
        precision=model.quantised or ("int4" if native else choose_precision("auto", device)),
        fits=[]
        if architecture is None
        else fits(
            architecture,
            device=device,
            native=native,
            bitsandbytes=all(software.extras["bnb"].values()),
            free=free,
            bandwidth=machine.read_bandwidth if device == "cpu" else None,
        ),
        machine=machine,
        software=software,
        storage=storage,
    )


def _find(name: str) -> tuple[Model, Architecture | None]:
    try:
        checkpoint = resolve(name, local_files_only=True)
    except CheckpointError as error:
        architecture = KNOWN.get(name)
        damage = None if isinstance(error, ModelNotFoundError) else str(error)
        size = None if architecture is None else 2 * architecture.parameters
        if name in RELEASES:
            size = RELEASES[name].gguf_bytes + 2 * RELEASES[name].parameters
        return Model(name, None, damage, name not in RELEASES and name.count("/") == 1, size), architecture
    model = Model(name, str(checkpoint.path), None, False, 0)
    if quantisation := checkpoint.config.get("quantization_config"):
        return replace(model, quantised=quantisation["quant_method"]), None  # it has one precision only, its own
    return model, Architecture.from_config(checkpoint.config)

"""Where weights come from, and in which precision they are held."""

from langchain_qwen.checkpoints.aliases import RELEASES, alias_folder, cache_root
from langchain_qwen.checkpoints.devices import choose_device, choose_precision
from langchain_qwen.checkpoints.folder import Checkpoint, open_folder
from langchain_qwen.checkpoints.resolving import pull, resolve

__all__ = [
    "RELEASES",
    "Checkpoint",
    "alias_folder",
    "cache_root",
    "choose_device",
    "choose_precision",
    "open_folder",
    "pull",
    "resolve",
]

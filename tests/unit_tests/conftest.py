"""What the unit tests share."""

from __future__ import annotations

import torch

# Products this small gain nothing from a second thread, and its barriers take seconds where the machine is busy.
torch.set_num_threads(1)

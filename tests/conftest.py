"""Tests compute as a trial does: on one thread. Two threads on a busy machine wait for each other."""

import torch

torch.set_num_threads(1)

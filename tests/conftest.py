"""Tests compute as a trial does, on one thread: on a busy machine two wait for each other."""

import torch

torch.set_num_threads(1)

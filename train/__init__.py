"""Dataset folder to checkpoint (the training stage; its modules import torch, never Beam or pipeline)."""

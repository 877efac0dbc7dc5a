"""What contrastive pre-training minimises: plain torch, by the formulas of their papers, float32."""

import torch
import torch.nn.functional as F


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """SimCLR (Chen et al. 2020, eq. 1): each view's other one has to be told from all other views of the batch; (b, k) each.

    Similarity is the cosine. It is `supervised_contrastive` where each slice is a class of its own.
    """
    return supervised_contrastive(first, second, torch.arange(len(first), device=first.device), temperature)


def supervised_contrastive(first: torch.Tensor, second: torch.Tensor, classes: torch.Tensor, temperature: float) -> torch.Tensor:
    """SupCon (Khosla et al. 2020, eq. 2, L_out): all views of slices of one class are alike; (b, k) each, classes (b,) int.

    The mean over views of the mean over the others of its class of -log softmax(cosine / temperature), over all others.
    """
    views = F.normalize(torch.cat([first, second]), dim=1)
    classes = classes.repeat(2)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    logs = (views @ views.T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    alike = (classes[:, None] == classes) & ~itself
    return -(logs.masked_fill(~alike, 0).sum(dim=1) / alike.sum(dim=1)).mean()


INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
"""weights of the terms of VICReg, as published"""


def vicreg(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """VICReg (Bardes et al. 2022, eq. 6): two views (b, k) are alike, each number varies over the batch, no two vary together."""
    variance = covariance = 0.0
    for views in (first, second):
        centred = views - views.mean(dim=0)
        variance = variance + F.relu(1 - (centred.var(dim=0) + 1e-4).sqrt()).mean() / 2
        products = (centred.T @ centred / (len(views) - 1)) ** 2
        covariance = covariance + (products.sum() - products.diagonal().sum()) / views.shape[1]
    return INVARIANCE * F.mse_loss(first, second) + VARIANCE * variance + COVARIANCE * covariance

"""The score of beta-VAE."""

from __future__ import annotations

from ...arguments import Instance, accepts
from ...models.exact import exact
from .columns import train_and_test
from .fixed import Fixed
from .learners import logistic_regression


@accepts(pairs=Instance((Fixed,), "pairs that share a factor, see `FixedFactors.pairs`"))
def beta_vae_score(pairs: Fixed, seed: int = 0) -> float:
    """Score of beta-VAE (Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts").

    The two images of each pair share the value of one factor, the same of all L pairs of a group. A linear classifier
    (logistic regression, scikit-learn's defaults, as in disentanglement_lib) learns from the mean over a group of
    |z - z'|, (D,), which factor that is; the score is its accuracy on the third of the groups that was held out.

    Perfect codes score 1, and so do most others: it is the mildest of the scores. Chance is 1 / F. Redundant codes and
    the cos and sin of a periodic factor score 1; two factors of one range that two latents share, turned by 45 degrees,
    cannot be told apart: 2/3 of three factors. Needs scikit-learn, the extra `factors`.

    Args:
        pairs: groups of pairs (G, L, 2, D).
        seed: of the groups that are held out.

    Returns:
        Between 0 and 1, the larger the better.

    Raises:
        ValueError: if these are no pairs, or the groups are too few for every factor to be among two thirds of them.
        UserError: without scikit-learn.
    """
    if pairs.codes.ndim != 4 or pairs.codes.shape[2] != 2:
        raise ValueError(f"pairs has codes {tuple(pairs.codes.shape)}: expected (G, L, 2, D).")
    train, test = train_and_test(len(pairs.codes), seed)
    if len(pairs.factor[train].unique()) < 2 or not len(test):
        raise ValueError(f"{len(pairs.codes)} group(s) of one factor or too few: give more, of at least two factors.")
    first, second = exact(pairs.codes).unbind(2)
    differences, factor = (first - second).abs().mean(1).numpy(), pairs.factor.numpy()
    model = logistic_regression().fit(differences[train], factor[train])
    return float(model.score(differences[test], factor[test]))

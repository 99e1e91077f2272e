"""The model now live, as far as training needs to know it: what to fit beside a candidate."""

from dataclasses import dataclass

from marquee.factors.fit import Recipe


@dataclass(frozen=True)
class Live:
    """How the model now live was made, to compare the recipes of two models on the same held-out ratings.

    Its stored factors were fitted on *all* of its own dataset. That may hold the very ratings on which a
    candidate is tested, so ranking with them would flatter the live model; a model trained on an older
    dataset would be punished instead, for not knowing the candidate's training ratings. Neither says which
    is the better way to make a model. So the live model's recipe (algorithm, objective, hyperparameters and
    seed, as its manifest has them) is fitted anew on the candidate's training split: both then learn from
    the same past and are asked about the same future, which neither has seen. What this cannot tell is what
    newer data are worth to the same recipe; two models of one recipe are the same here, and are said to be.

    Parameters
    ----------
    model_id : None when nothing is live, or when that could not be found out.
    recipe : None when the model cannot be fitted here.
    reason : why there is no recipe; empty when there is one.
    """

    model_id: str | None
    recipe: Recipe | None = None
    seed: int = 0
    reason: str = ""

    def differs_from(self, made: Recipe, seed: int) -> bool:
        """Whether comparing it with a candidate made so takes a fit."""
        return self.recipe is not None and (self.recipe, self.seed) != (made, seed)


NOTHING_LIVE = Live(None, reason="nothing is live to compare with")

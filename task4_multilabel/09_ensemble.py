"""Put the predictions of several experiments together, fold by fold: their mean, weights chosen on validation, or stacked.

No member of a fold has learned from its test patients, and what is fitted here is fitted on its validation images alone. The
result is an experiment like any other. Its members may differ in network, weights, size, loss, seed ...; not in folds, protocol
or labels.

Reads   outputs/NAME/task4/MEMBER/foldK/{model.json,predictions.csv}    task4_multilabel/02_train.py, 08_train_head.py
Writes  outputs/NAME/task4/EXPERIMENT/foldK/                        model.json (members, what was fitted), predictions.csv
Next    python task4_multilabel/03_evaluate.py --experiment EXPERIMENT

    python task4_multilabel/09_ensemble.py efficientnet-lite0 resnet50 --rule stacking
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.classification import ensemble_step


def main(argv: list[str] | None = None) -> None:
    ensemble_step.run(__file__, __doc__, argv, task=4)


if __name__ == "__main__":
    cli.exit_cleanly(main)

"""Explain each label that a network calls: where it looks (class activation maps), and whether that is where the lesion is.

Each test image that has a label, or is called so, is mapped for it by the model of its fold, which has not seen the patient. The
layer (most heat in the boxes) and the threshold of maps (Dice) are chosen on validation. The score measures against masks and
against boxes, those of a class that is called like the label, else all; without any there are maps alone.

Reads   outputs/NAME/task4/EXPERIMENT/foldK/{best.pt,model.json,predictions.csv}    task4_multilabel/02_train.py
        outputs/NAME/task4/EXPERIMENT/metrics.json (thresholds)     task4_multilabel/03_evaluate.py
        data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
        outputs/NAME/task2/DETECTOR/foldK/ (--boxes DETECTOR)       task2_detection/02_train.py
Writes  outputs/NAME/task4/EXPERIMENT/explain/METHOD/   metrics.json, scores.csv (beside random weights, the centre, a detector),
            per_case.csv, layers.csv, right_for_the_wrong_reason.csv (correct, and heat outside the head, first), scores.png,
            true_positives.png, false_positives.png, false_negatives.png, examples.png (three of each);
            --images: images/KIND/IMAGE.png
        data/{raw,work}/NAME-pseudo-foldK/ (--write boxes|masks --fold K)   maps as labels to train tasks 2 and 3 with
Next    python scripts/90_make_report.py; after --write: python task2_detection/02_train.py --dataset NAME-pseudo-foldK --fold K

    python task4_multilabel/10_explain.py --experiment resnet18 --method hirescam --layer layer3,layer4 --boxes yolov8n
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.explain import step


def main(argv: list[str] | None = None) -> None:
    step.run(__file__, __doc__, argv, task=4)


if __name__ == "__main__":
    cli.exit_cleanly(main)

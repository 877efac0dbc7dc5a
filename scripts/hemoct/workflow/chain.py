"""Every step of the chain, in order, with the files that it reads and writes: the one list of them.

`scripts/run_all.sh` and `scripts/workflow/Snakefile` take their commands from here, and tests/steps/test_chain.py compares the
files with the run record of each step. Only the standard library is imported: run_all.sh asks before the project is installed.
"""

from hemoct.workflow import classification, data, detection, multilabel, multitask, pretraining, segmentation, studies
from hemoct.workflow.steps import Step

STEPS: tuple[Step, ...] = (
    *data.STEPS,
    *classification.STEPS,
    *detection.STEPS,
    *segmentation.STEPS,
    *data.OF_TYPES,
    *classification.OF_TYPES,
    *multilabel.STEPS,
    *pretraining.STEPS,
    *studies.STEPS,
    *multitask.STEPS,
    *data.RESULTS,
)

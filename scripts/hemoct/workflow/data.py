"""The steps that make a data set, and those that show results: scripts/."""

from hemoct.workflow.steps import LABELS, OUTPUTS, RAW, WORK, Record, Step, experiment, of_types

MAKE_LABELS = Step(
    "scripts/03_make_labels.py",
    last="{label_flags}",
    records=(Record(WORK, (RAW, f"{WORK} merged_annotation"), "dataset.json labels.csv images.csv boxes.csv", "patients.csv"),),
    memory_mb=8000,
)
MAKE_SPLITS = Step("scripts/05_make_splits.py", records=(Record(WORK, (LABELS,), "splits.csv"),))
STEPS = (
    Step("scripts/01_get_data.py", "{get}", records=(Record(WORK, beside="/data/raw/{dataset}"),)),
    Step(
        "scripts/02_merge_annotations.py",
        last="{merge_flags}",
        records=(Record(WORK, (RAW,), beside="repairs.csv merged_annotation"),),
    ),
    MAKE_LABELS,
    Step(
        "scripts/04_check_data.py",
        "{mask_value}",
        records=(
            Record(WORK, (RAW, LABELS, f"{WORK} boxes.csv patients.csv repairs.csv"), "audit.json audit.csv", "figures/*.png"),
        ),
    ),
    MAKE_SPLITS,
)
OF_TYPES = (
    Step(
        "scripts/01_get_data.py",
        last="--from {at}data/raw/{demo}/types",
        records=(Record(WORK, beside="/data/raw/{dataset}"),),
        after=("data/raw {demo}",),
        typed=True,
        demo=True,
        suffix="_of_types",
    ),
    of_types(MAKE_LABELS, last=""),
    of_types(MAKE_SPLITS),
)

SEEN = (experiment(1, "{classifier}"), experiment(2, "{detector}"), experiment(3, "{segmenter}"), "outputs/{types}/task4/{typer}")
PREDICT_SCAN = Step(  # a patient of no split, seen by the models of both data sets
    "scripts/80_predict_scan.py",
    last="{at}data/raw/{dataset}/unseen/dicom --models {at}outputs/{dataset} --models {at}outputs/{types} "
    "--out {at}outputs/{dataset}/scans/unseen --overwrite",
    records=(
        Record(
            f"{OUTPUTS}/scans/unseen",
            (
                f"{RAW}/unseen/dicom",
                *(f"{folder} metrics.json" for folder in SEEN),
                *(f"{folder}/fold{{fold}} best.pt model.json" for folder in SEEN),
            ),
            "scan.json slices.csv scan.nii.gz montage.png scan.html",
            "boxes.csv edema.nii.gz core.nii.gz masks",
        ),
    ),
    demo=True,
    memory_mb=8000,
)
REPORT = Step(  # of whatever there is of a data set
    "scripts/90_make_report.py", records=(Record(OUTPUTS, (f"{WORK} *", f"{OUTPUTS} *"), "report.html report.md"),)
)
RESULTS = (PREDICT_SCAN, of_types(REPORT), REPORT)

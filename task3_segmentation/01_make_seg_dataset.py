"""Write the slices of each fold with their masks as folders of images and masks, or as a raw data set of nnU-Net v2.

Images are linked, not copied. A slice whose mask file is missing is left out; an empty mask is a mask.
In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json            scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  data/work/NAME/seg_dataset/PROTOCOL/foldK/                  images/{train,val,test}, masks/{train,val,test} (0 and 255)
        (--format nnunet: data/work/NAME/nnunet_raw/DatasetNNN_NAME/, all folds at once:
        imagesTr, labelsTr (0 and 1), imagesTs/foldK, dataset.json, splits_final.json)
Next    python task3_segmentation/02_train.py (which reads the tables, not this export)

nnU-Net (in an environment of its own, with nnUNet_raw=data/work/NAME/nnunet_raw and RAW=$nnUNet_raw/DatasetNNN_NAME):
  nnUNetv2_plan_and_preprocess -d NNN -c 2d --verify_dataset_integrity
  cp $RAW/splits_final.json $nnUNet_preprocessed/DatasetNNN_NAME/        or nnU-Net splits by slice, patients on both sides
and for each fold K, with FOLD=outputs/NAME/task3/nnunet/foldK:
  nnUNetv2_train NNN 2d K
  nnUNetv2_predict -d NNN -c 2d -f K -i $RAW/imagesTs/foldK -o $FOLD/probability
  cp $RAW/imagesTs/foldK/predictions.csv $FOLD/
Then 03_evaluate.py --experiment nnunet scores it as any experiment; its masks of 0 and 1 leave no threshold to choose.
nnU-Net knows training and validation alone: split K holds those of our fold K, the test slices of fold K are in neither. Its own
cross-validation is therefore one of validation slices; test predictions are those above, of fold K by the model of fold K alone.
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.segmentation import options
from hemoct.training import step


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    base_options.add(parser, options.Selection, "data", without=("validation", "prepare"), fold={"help": "the fold to write"})
    group = parser.add_argument_group("export")
    group.add_argument("--format", default="png", choices=("png", "nnunet"), help="folders of images and masks, or nnU-Net v2")
    group.add_argument("--dataset-id", type=cli.positive_int, default=1, metavar="NNN", help="number of the nnU-Net data set")
    args = cli.parse(parser, argv, __file__)
    if args.format == "nnunet" and args.fold != "all":
        parser.error("--format nnunet writes all folds into one data set; name the fold to nnUNetv2_train")
    if args.dataset_id > 999:
        parser.error(f"--dataset-id {args.dataset_id} has more than three digits")
    from hemoct.segmentation import (  # what computes is not imported at the top: --help shall be quick
        data as segmentation_data,
        export,
    )

    work, selection = Workspace.of(args), base_options.read(args, options.Selection)
    protocol = "given" if selection.split == "given" else selection.protocol
    if args.format == "nnunet":
        targets = {export.nnunet_folder(work, protocol, args.dataset_id): selection.folds}
    else:
        targets = {export.folder(work, protocol, fold): [fold] for fold in selection.folds}
    inputs = [work.work / name for name in step.TABLES]
    runs = [run for run in (Run(__file__, args, target, inputs) for target in targets) if not run.up_to_date()]
    if runs:
        data = segmentation_data.load(work, selection.mask_value, selection.limit_patients)
        if args.format == "nnunet":
            export.stop_if_names_clash(data)
        masks = export.look(work, data)
        parts = {fold: export.part_of(work, data, fold, selection) for run in runs for fold in targets[run.folder]}
    for run in runs:
        of_target = {fold: parts[fold] for fold in targets[run.folder]}
        with run:
            run.wrote(*export.WRITERS[args.format](run.folder, work, data, of_target, masks))
        for fold, part in of_target.items():
            print(f"{work.show(run.folder)} (fold {fold}): {export.counts(data, masks, part)}")
    cli.say_next(work, experiments.train_step(3))


if __name__ == "__main__":
    cli.exit_cleanly(main)

"""Write the slices of each fold with their masks as folders of images and masks, or as a raw data set of nnU-Net v2.

Images are linked, not copied. A slice whose mask file is missing is left out; an empty mask is a mask.
In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json            scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  data/work/NAME/seg_dataset/PROTOCOL/foldK/                  images/{train,val,test}, masks/{train,val,test} (0 and 255)
        (--format nnunet: data/work/NAME/nnunet_raw/DatasetNNN_NAME/, all folds at once:
        imagesTr, labelsTr (0 and 1), imagesTs/foldK, dataset.json, splits_final.json)
Next    python task3_segmentation/02_train.py

nnU-Net (its own environment; nnUNet_raw=data/work/NAME/nnunet_raw), for each fold K = 0 .. 4:
  nnUNetv2_plan_and_preprocess -d 1 -c 2d --verify_dataset_integrity        once; then copy splits_final.json
                                                                            to $nnUNet_preprocessed/DatasetNNN_NAME/
  nnUNetv2_train 1 2d K
  nnUNetv2_predict -d 1 -c 2d -f K -i $nnUNet_raw/DatasetNNN_NAME/imagesTs/foldK -o OUT/foldK --save_probabilities
Its folds know training and validation alone: split K has our training and validation patients of fold K, and the test patients of
fold K in neither. So its cross-validation results are validation; out-of-fold test predictions come from the last command, with
the model of fold K for imagesTs/foldK (validation and test slices of fold K) and never with all folds at once.
"""

from __future__ import annotations

from hemoct import cli, mask_data, seg_export, slice_data

TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    slice_data.add_flags(parser)
    parser.add_argument("--format", default="png", choices=("png", "nnunet"), help="folders of images and masks, or nnU-Net v2")
    parser.add_argument(
        "--mask-value", type=cli.whole_number, metavar="V", help="the lesion in masks of several values (palette: its index)"
    )
    parser.add_argument("--dataset-id", type=cli.positive_int, default=1, metavar="NNN", help="number of the nnU-Net data set")
    args = cli.parse(parser, argv, __file__)
    if args.format == "nnunet" and args.fold != "all":
        parser.error("--format nnunet writes all folds into one data set; name the fold to nnUNetv2_train")
    if args.dataset_id > 999:
        parser.error(f"--dataset-id {args.dataset_id} has more than three digits")
    work = cli.workspace(args)
    protocol = "given" if args.split == "given" else args.protocol
    if args.format == "nnunet":
        targets = {seg_export.nnunet_folder(work, protocol, args.dataset_id): slice_data.folds(args)}
    else:
        targets = {seg_export.folder(work, protocol, fold): [fold] for fold in slice_data.folds(args)}
    inputs = [*(work.work / name for name in TABLES), work.raw]
    runs = {target: cli.Run(__file__, args, target, inputs) for target in targets}
    due = [target for target in targets if not runs[target].up_to_date()]
    if not due:
        return

    data = mask_data.load(work, args.mask_value, args.limit_patients)
    if args.format == "nnunet":
        seg_export.stop_if_names_clash(data)
    found = seg_export.look(work, data)
    parts = {fold: seg_export.part_of(work, data, fold, args) for target in due for fold in targets[target]}
    for target in due:
        of_target = {fold: parts[fold] for fold in targets[target]}
        with runs[target] as run:
            run.wrote(*seg_export.WRITERS[args.format](target, work, data, of_target, found))
        for fold, part in of_target.items():
            print(f"{work.show(target)} (fold {fold}): {seg_export.counts(data, found, part)}")


if __name__ == "__main__":
    cli.exit_cleanly(main)

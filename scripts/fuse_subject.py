"""Lay a subject's moved images on its fixed image: fused images as NIfTI and PNG, the moved ones as DICOM.

In:  a subject's fixed image; for each moving image, the moved one of the chosen method, on the fixed grid (LPS, mm).
Out: a folder: `{image}_{kind}.nii.gz` in colours, `png/{image}_{kind}/` with one picture a slice, `dicom/{image}/` with
     the moved values in their own units, `overview.png`, and fusion.json, which says by which method and how exactly.

Where a registration failed nothing is fused, and fusion.json says so.
"""

from pathlib import Path

from pydicom.uid import UID

from cohortmorph.clinic import export as dicom_export
from cohortmorph.clinic import reader as dicom
from cohortmorph.clinic.privacy import without_identity
from cohortmorph.cohort import configuration, sources
from cohortmorph.figures import fusion, pictures
from cohortmorph.figures import style as figures
from cohortmorph.run import files, logs
from cohortmorph.spatial import intensity
from cohortmorph.spatial.geometry import Grid, read_image, to_array, to_image


def main(
    subject: str,
    fixed_name: str,
    fixed: str,
    names: list,
    modalities: list,
    methods: list,
    moved: list,
    registrations: list,
    sidecars: list,
    selected_model: str,
    fixed_intensity: dict,
    moving_intensities: list,
    settings: dict,
    output: str,
    frame_of_reference: str = "",
    phantom: bool = False,
):
    """Fuse the images of one subject.

    Parameters
    ----------
    subject, fixed_name : str
        Ids, as in the cohort table.
    fixed : str
        Path of the fixed image.
    names, modalities : list of str
        Of the moving images, as in the table.
    methods : list of str
        The method, or several of which `selected_model` names the one that is taken.
    moved, registrations : list of str
        Paths of the moved images and of registration.json, by moving image, then by method.
    sidecars : list of str
        Paths of the moving images' sidecars.
    selected_model : str
        Path of selected_model.json, "" where there is one method.
    fixed_intensity : dict
        Settings of cohortmorph.spatial.intensity.prepare; `moving_intensities` is a list of them.
    settings : dict
        The config's ``fusion`` section.
    output : str
        The folder; made, or replaced as a whole.
    frame_of_reference : str
        The fixed image's FrameOfReferenceUID, for DICOM; "" for a new one.
    """
    method = methods[0]
    if selected_model:
        selected = files.read_json(selected_model)
        method = configuration.learned_method(selected["weight"], selected["epoch"])
    still = read_image(fixed)
    grid = Grid.of(still)
    grey = to_array(intensity.prepare_or_blank(still, fixed_intensity, f"{subject}, {fixed_name}"))
    described, shown = {}, {}
    with files.publishing_folder(output) as folder:
        for n, (name, modality, sidecar) in enumerate(zip(names, modalities, sidecars, strict=True)):
            at = n * len(methods) + methods.index(method)
            why = files.read_json(registrations[at]).get("failed")
            if why:
                logs.log.warning("%s, %s onto %s: %s failed; nothing is fused", subject, name, fixed_name, method)
                described[name] = {"failed": why}
                continue
            image = read_image(moved[at])
            prepared = to_array(intensity.prepare_or_blank(image, moving_intensities[n], f"{subject}, {name} moved"))
            row = {f"{fixed_name} (fixed)": grey, "moved": prepared}
            for kind in settings["kinds"]:
                row[kind] = rgb = fusion.fuse(kind, grey, prepared, grid, settings)
                fusion.write_nifti(rgb, grid, folder / f"{name}_{kind}.nii.gz")
                if settings["png"]:
                    title = f"{subject}: {name} moved onto {fixed_name} ({method}), {kind}"
                    title += ", simulated (phantom)" if phantom else ""
                    fusion.write_slices(rgb, grid, folder / "png" / f"{name}_{kind}", title)
            shown[name] = {column: pictures.oriented(to_image(array, grid)) for column, array in row.items()}
            described[name] = {}
            if settings["dicom"] != "none":
                naming = dicom_export.Naming(
                    subject=subject,
                    image=name,
                    fixed=fixed_name,
                    method=method,
                    modality=dicom_modality(modality, files.read_json(sidecar).get("modality")),
                    number=n + 1,
                    frame_of_reference=frame_of_reference,
                    phantom=phantom,
                )
                described[name]["dicom"] = dicom_export.write_series(
                    to_array(image), grid, to_array(still), naming, folder / "dicom" / name
                )
        if shown:
            across = fusion.slice_axis(pictures.oriented(still), grid)
            plane = next(plane for plane, axis in pictures.PLANES.items() if axis == across)
            figure = pictures.fused(
                shown, plane, grid.size[2] // 2, f"{subject}: moved onto {fixed_name} by {method}, middle {plane} slice"
            )
            figures.save(figure, folder / "overview.png", phantom=phantom)
        summary = {"subject": subject, "fixed": fixed_name, **settings, "method": method, "images": described}
        files.write_json(summary, folder / "fusion.json")


def dicom_modality(table_modality, sidecar_modality):
    """Return CT or MR where it is known, else OT (other): what a DICOM source says, or the table of an image file."""
    if sidecar_modality:
        return sidecar_modality if sidecar_modality in dicom_export.STORAGE else "OT"
    word = table_modality.upper()
    return "CT" if word == "CT" else "MR" if word.startswith(("MR", "T1", "T2", "FLAIR", "PD")) else "OT"


def frame_of_reference_of(source, name, series, allow):
    """Return the FrameOfReferenceUID of a DICOM series, or "" (and a warning) where the source has none."""
    found = ""
    if source and Path(source).is_dir():
        found = dicom.choose(source, name, series, allow).candidate.series.frame_of_reference
    if not UID(found).is_valid:
        found = ""
        logs.log.warning("%s: no frame of reference is known; the DICOM series get a new one", name)
    return found


if __name__ == "__main__":
    subject, fixed_name = snakemake.wildcards.subject, snakemake.wildcards.image
    given = dict(snakemake.params)
    folder, series, options = (given.pop(key) for key in ("data_folder", "series", "dicom"))
    name = f"subject {subject}, image {fixed_name}"
    with logs.job(snakemake.log[0], packages=["pydicom", "SimpleITK"]), without_identity(name):
        frame = ""
        if given["settings"]["dicom"] == "linked":
            path = sources.path_of(snakemake.input.table, folder, subject, fixed_name)
            frame = frame_of_reference_of(path, name, series, options["allow"])
        main(
            subject=subject,
            fixed_name=fixed_name,
            fixed=snakemake.input.fixed,
            moved=list(snakemake.input.moved),
            registrations=list(snakemake.input.registrations),
            sidecars=list(snakemake.input.sidecars),
            selected_model=snakemake.input.get("selected_model", ""),
            output=snakemake.output[0],
            frame_of_reference=frame,
            **given,
        )

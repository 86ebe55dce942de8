"""What file names say, the real odd ones of UTKFace among them, and the age groups."""

import numpy as np
import pandas as pd
import pytest

from stages.faces.labels import LabelError, Labels, age_group, parse_name

BOUNDS = [14, 25, 40, 60, 116]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("25_0_2_20170116174525125.jpg", (25, 0, 2)),  # the wild release
        ("9_1_4_20170103200637399.jpg.chip.jpg", (9, 1, 4)),  # the aligned release
        ("24_0_1_20170116220224657 .jpg.chip.jpg", (24, 0, 1)),
        ("55_0_0_20170116232725357jpg.chip.jpg", (55, 0, 0)),
        ("14_0_0_2017011022340900.jpg.chip.jpg", (14, 0, 0)),  # a digit of the date is missing
        ("28_1_2_201701161846515488.jpg.chip.jpg", (28, 1, 2)),  # and here it has one more
        ("1_0_0_1.jpg", (1, 0, 0)),
        ("116_1_4_20170112213500903.jpg", (116, 1, 4)),
        ("007_1_3_20170112213500903.jpg", (7, 1, 3)),
        ("30_1_1_20260101000900001jpg", (30, 1, 1)),
    ],
)
def test_names_whose_meaning_is_sure_are_read(name, labels):
    assert parse_name(name) == Labels(*labels)


@pytest.mark.parametrize(
    "suffix", ["jpg", "jpeg", "JPG", "JPEG", "png", "PNG", "bmp", "webp", "tif", "tiff", "gif"]
)
def test_the_suffix_of_every_image_format_is_read(suffix):
    assert parse_name(f"30_1_2_20170112213500903.{suffix}") == Labels(30, 1, 2)


@pytest.mark.parametrize(
    "name",
    [
        "61_1_20170109150557335.jpg.chip.jpg",
        "61_1_20170109142408075.jpg.chip.jpg",
        "39_1_20170116174525125.jpg.chip.jpg",
        "39_20170116174525125.jpg",
        "39.jpg",
        "39_1_2_3_20170116174525125.jpg",
    ],
)
def test_a_missing_or_additional_field_is_refused_with_their_number(name):
    number = name.split(".")[0].count("_") + 1
    with pytest.raises(LabelError, match=f"^{number} fields"):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("0_0_0_20170112213500903.jpg", "age 0 "),
        ("117_0_0_20170112213500903.jpg", "age 117 "),
        ("500_1_3_20170112213500903.jpg", "age 500 "),
        ("30_2_0_20170112213500903.jpg", "gender 2 "),
        ("30_3_0_20170112213500903.jpg", "gender 3 "),
        ("30_0_5_20170112213500903.jpg", "race 5 "),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_field(name, field):
    with pytest.raises(LabelError, match=f"^{field}is not in"):
        parse_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "notes.txt",
        "README",
        "30_0_0_20170112213500903",
        "30_0_0_20170112213500903.",
        "30_0_0_20170112213500903.txt",
        "30_0_0_20170112213500903.jpg.exe",
        "30_0_0_20170112213500903.jpg\n",
        "30_0_0_20170112213500903 copy.jpg",
        "x30_0_0_20170112213500903.jpg",
        "._30_0_0_20170112213500903.jpg",  # what macOS leaves in archives
        "-30_0_0_20170112213500903.jpg",
        "30.5_0_0_20170112213500903.jpg",
        "30__0_20170112213500903.jpg",
        "_30_0_0_20170112213500903.jpg",
        "30_0_0_.jpg",
        "30-0-0-20170112213500903.jpg",
        "30_0_0_20170112213500903..jpg",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(LabelError, match="not an image named"):
        parse_name(name)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_thousands_of_digits_are_refused_in_a_short_text(position):
    fields = ["30", "0", "0", "20170112213500903"]
    fields[position] = "9" * 10_000
    with pytest.raises(LabelError, match="is not in") as caught:
        parse_name("_".join(fields) + ".jpg")
    assert len(str(caught.value)) < 100


def test_thousands_of_digits_in_the_date_do_no_harm():
    assert parse_name(f"30_0_0_{'1' * 10_000}.jpg") == Labels(30, 0, 0)


def test_thousands_of_fields_are_refused():
    with pytest.raises(LabelError, match="10001 fields"):
        parse_name("1_" * 10_000 + "1.jpg")


def test_an_age_on_a_bound_belongs_to_the_group_that_it_ends():
    ages = [1, 14, 15, 25, 26, 40, 41, 60, 61, 116]
    np.testing.assert_array_equal(age_group(ages, BOUNDS), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])


def test_each_age_lies_between_the_bounds_of_its_group():
    ages = np.arange(1, 117)
    groups = age_group(ages, BOUNDS)
    assert groups.dtype == np.int64
    assert (np.array([0, *BOUNDS])[groups] < ages).all()
    assert (ages <= np.array(BOUNDS)[groups]).all()


def test_ages_may_come_as_the_nullable_integers_of_the_index():
    groups = age_group(pd.Series([14, 15], dtype="Int64"), BOUNDS)
    np.testing.assert_array_equal(groups, [0, 1])


def test_no_ages_have_no_groups():
    assert age_group([], BOUNDS).shape == (0,)

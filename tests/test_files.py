"""What stands in the way of a file is said before the work, by the name that the user gave."""

import pytest

from meseta.errors import UserError
from meseta.files import check_file, check_folder, write_text


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for check, path in ((check_folder, "file"), (check_folder, "file/below/it"), (check_file, "file/a.txt")):
        with pytest.raises(UserError, match=r"output folder: \S*file is a file"):
            check(tmp_path / path)
    with pytest.raises(UserError, match=r"output: \S*folder is a folder"):
        check_file(tmp_path / "folder")
    with pytest.raises(IsADirectoryError) as error:  # an error of the system, as all are in writing
        write_text(tmp_path / "folder", "text")
    assert error.value.filename == str(tmp_path / "folder")
    for check, path in ((check_folder, "folder"), (check_folder, "new/below/it"), (check_file, "new/a.txt")):
        check(tmp_path / path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]

from xmodelkd_ros.reports.markdown import markdown_row, markdown_table


def test_table_has_head_rule_and_rows():
    assert markdown_table(("a", "b"), [("x", 1), ("y", None)]) == "| a | b |\n|---|---|\n| x | 1 |\n| y | None |"
    assert markdown_table(("a", "b", "c"), [], numeric=True) == "| a | b | c |\n|---|---:|---:|"


def test_cell_cannot_end_its_column():
    assert markdown_row(["a | b", 2]) == "| a / b | 2 |"

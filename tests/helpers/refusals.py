"""What wrong input must come to: one line, exit code 2."""


def refused(result, *words: str) -> bool:
    """Whether a step stopped with one line that holds all these words."""
    assert result.code == 2 and result.err.count("\n") == 1 and "Traceback" not in result.err, result.err
    assert all(word in result.err for word in words), result.err
    return True

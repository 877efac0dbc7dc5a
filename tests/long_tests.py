"""Write long_tests.txt again: the tests that the ordinary run leaves out, so that it ends within eight minutes on two cores.

bash scripts/test.sh -m "not slow" --junitxml=FILE && python tests/long_tests.py FILE
"""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

LIST = Path(__file__).with_name("long_tests.txt")
SECONDS = 2.5  # of one run of a test, with what is set up for it
ALWAYS = {"steps/test_chain.py"}
"""long, and yet in the ordinary run: the whole demonstration"""


def names() -> set[str]:
    """Tests as `steps/test_kills.py::test_one_write`, whatever their parameters."""
    return set(LIST.read_text(encoding="utf-8").split())


def named(path: str, test: str) -> str:
    """How a test is called in the list. `path`: of its file, below tests/."""
    return f"{path}::{test.partition('[')[0]}"


def main(junit: Path) -> None:
    found = set()
    for case in ET.parse(junit).getroot().iter("testcase"):
        path = case.get("classname").removeprefix("tests.").replace(".", "/") + ".py"
        if float(case.get("time")) > SECONDS and path not in ALWAYS:
            found.add(named(path, case.get("name")))
    LIST.write_text("".join(f"{name}\n" for name in sorted(found)), encoding="utf-8")
    print(f"{len(found)} tests in {LIST}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Runs this folder's tests and says at the end how many passed, failed and were skipped: for tests/check.sh."""

from __future__ import annotations

import os
import sys
import unittest

if __name__ == "__main__":
    tests = unittest.defaultTestLoader.discover(os.path.dirname(os.path.abspath(__file__)))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(tests)
    for test, reason in result.skipped:
        print(f"skip programs: {test.id()}: {reason}")
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed, {len(result.skipped)} skipped")

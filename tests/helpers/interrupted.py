"""Trainings that are stopped by the keyboard behind an epoch."""

from contextlib import contextmanager

import pytest

from hemoct.training.fit import Fit


@contextmanager
def after_epoch(number: int):
    """Within, every training of this process stops as soon as an epoch and its files are done; yields the epochs that were."""
    done, log = [], Fit.log

    def stopping(self, epoch, *more, **numbers):
        log(self, epoch, *more, **numbers)
        done.append(epoch)
        if epoch == number:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "log", stopping)
        yield done

"""Types of numpy arrays, named by what an element is; and numpy itself for modules that help texts import.

Importing numpy takes longer than all else that ``fairseq-vgs evaluate retrieval --help`` does. Modules on
that way write ``from fairseq_vgs.arrays import np``: numpy is imported where it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    F16 = npt.NDArray[np.float16]
    F32 = npt.NDArray[np.float32]
    F64 = npt.NDArray[np.float64]
    I64 = npt.NDArray[np.int64]
    Bool = npt.NDArray[np.bool_]
else:

    class _Numpy:
        """numpy, imported when an attribute is asked for."""

        def __getattr__(self, name: str) -> Any:
            import numpy as np

            return getattr(np, name)

    np = _Numpy()
    F16 = F32 = F64 = I64 = Bool = Any

__all__ = ["F16", "F32", "F64", "I64", "Bool", "np"]

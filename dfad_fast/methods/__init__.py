"""Methods: one short file each, a table of weighted terms and a schedule.

A new method is a file here and an import below: ``METHODS`` lists every imported method in this order.
"""

# isort: skip_file
from dfad_fast.methods.method import Method as Method
from dfad_fast.methods.hard_labels import for_hard_labels as for_hard_labels

from dfad_fast.methods.dfad import DFAD as DFAD
from dfad_fast.methods.dfad_ar import DFAD_AR as DFAD_AR
from dfad_fast.methods.dfad_vi import DFAD_VI as DFAD_VI
from dfad_fast.methods.dfad_ar_vi import DFAD_AR_VI as DFAD_AR_VI
from dfad_fast.methods.dfad_ar_vi_bn import DFAD_AR_VI_BN as DFAD_AR_VI_BN
from dfad_fast.methods.zskt import ZSKT as ZSKT
from dfad_fast.methods.dafl import DAFL as DAFL
from dfad_fast.methods.dfq import DFQ as DFQ
from dfad_fast.methods.fast import FAST_2 as FAST_2
from dfad_fast.methods.fast import FAST_5 as FAST_5
from dfad_fast.methods.fast import FAST_10 as FAST_10
from dfad_fast.methods.nayer import NAYER as NAYER
from dfad_fast.methods.cmi import CMI as CMI
from dfad_fast.methods.procedural import PROCEDURAL as PROCEDURAL
from dfad_fast.methods.dfme import DFME as DFME
from dfad_fast.methods.maze import MAZE as MAZE
from dfad_fast.methods.kegnet import KEGNET as KEGNET
from dfad_fast.methods.inversion import DEEPINVERSION as DEEPINVERSION
from dfad_fast.methods.inversion import ADI as ADI
from dfad_fast.methods.inversion import TV_INVERSION as TV_INVERSION
from dfad_fast.methods.inversion import PSAQ as PSAQ
from dfad_fast.methods.inversion import PROCEDURAL_INVERSION as PROCEDURAL_INVERSION
from dfad_fast.methods.dfkd import DFKD as DFKD
from dfad_fast.methods.dream import DREAM as DREAM

METHODS: dict[str, Method] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Method)
}

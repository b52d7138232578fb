"""Teachers that give their answers and nothing else: no gradients, no features, no weights."""

from dfad_fast.models.black_box.answers import ANSWERS as ANSWERS
from dfad_fast.models.black_box.endpoint import HTTPEndpoint as HTTPEndpoint
from dfad_fast.models.black_box.onnx_session import OnnxSession as OnnxSession
from dfad_fast.models.black_box.queries import Queries as Queries
from dfad_fast.models.black_box.queries import QueryBudgetSpent as QueryBudgetSpent
from dfad_fast.models.black_box.teacher import BlackBoxTeacher as BlackBoxTeacher
from dfad_fast.models.black_box.teacher import is_black_box as is_black_box
from dfad_fast.models.black_box.teacher import refuse_hidden_black_box as refuse_hidden_black_box

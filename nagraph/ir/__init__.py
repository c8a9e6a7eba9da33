"""The graph form: types, values, nodes, graphs, how they are built, printed, parsed and verified."""

from nagraph.ir.builder import Builder as Builder
from nagraph.ir.builder import active as active
from nagraph.ir.builder import active_stack as active_stack
from nagraph.ir.builder import build as build
from nagraph.ir.builder import constant as constant
from nagraph.ir.builder import current as current
from nagraph.ir.builder import emit as emit
from nagraph.ir.constant import Constant as Constant
from nagraph.ir.constant import Data as Data
from nagraph.ir.graph import Graph as Graph
from nagraph.ir.graph import Node as Node
from nagraph.ir.graph import Value as Value
from nagraph.ir.location import Location as Location
from nagraph.ir.op import REGISTRY as REGISTRY
from nagraph.ir.op import Array as Array
from nagraph.ir.op import Cost as Cost
from nagraph.ir.op import Op as Op
from nagraph.ir.op import op as op
from nagraph.ir.printer import format_graph as format_graph
from nagraph.ir.types import TensorType as TensorType
from nagraph.ir.types import bfloat16 as bfloat16
from nagraph.ir.types import spec as spec

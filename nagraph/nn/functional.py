"""The functions behind the layers, callable on their own."""

from nagraph.composites.activations import elu as elu
from nagraph.composites.activations import gelu as gelu
from nagraph.composites.activations import gelu_tanh as gelu_tanh
from nagraph.composites.activations import leaky_relu as leaky_relu
from nagraph.composites.activations import relu as relu
from nagraph.composites.activations import silu as silu
from nagraph.composites.attention import attention as attention
from nagraph.composites.attention import rope as rope
from nagraph.composites.attention import rope_tables as rope_tables
from nagraph.composites.losses import cross_entropy as cross_entropy
from nagraph.composites.norms import batch_norm as batch_norm
from nagraph.composites.norms import batch_norm_training as batch_norm_training
from nagraph.composites.norms import group_norm as group_norm
from nagraph.composites.norms import layer_norm as layer_norm
from nagraph.composites.norms import rms_norm as rms_norm
from nagraph.composites.softmax import log_softmax as log_softmax
from nagraph.composites.softmax import logsumexp as logsumexp
from nagraph.composites.softmax import softmax as softmax
from nagraph.ops.convolution import conv as conv
from nagraph.ops.convolution import conv_transpose as conv_transpose
from nagraph.ops.pooling import avg_pool as avg_pool
from nagraph.ops.pooling import max_pool as max_pool
from nagraph.ops.special import sigmoid as sigmoid
from nagraph.ops.special import softplus as softplus
from nagraph.ops.special import tanh as tanh
from nagraph.transforms.api import stop_gradient as stop_gradient

"""Optimisers, schedules and gradient clipping.

    opt = ng.optim.AdamW(3e-4)
    state = opt.init(model)
    model, state = opt.update(model, grads, state)
"""

from nagraph.optim.adagrad import Adagrad as Adagrad
from nagraph.optim.adagrad import RMSprop as RMSprop
from nagraph.optim.adam import Adam as Adam
from nagraph.optim.adam import AdamW as AdamW
from nagraph.optim.base import Optimizer as Optimizer
from nagraph.optim.base import OptimizerState as OptimizerState
from nagraph.optim.clipping import clip_by_global_norm as clip_by_global_norm
from nagraph.optim.clipping import clip_by_value as clip_by_value
from nagraph.optim.clipping import global_norm as global_norm
from nagraph.optim.lion import Lion as Lion
from nagraph.optim.schedules import Schedule as Schedule
from nagraph.optim.schedules import constant as constant
from nagraph.optim.schedules import cosine as cosine
from nagraph.optim.schedules import exponential as exponential
from nagraph.optim.schedules import linear as linear
from nagraph.optim.schedules import one_cycle as one_cycle
from nagraph.optim.schedules import polynomial as polynomial
from nagraph.optim.schedules import step as step
from nagraph.optim.schedules import warm_up as warm_up
from nagraph.optim.sgd import SGD as SGD

"""Training: recipes, tasks, one step as a pure function, runs that can be stopped and resumed."""

from nagraph.models.training.recipe import Recipe as Recipe
from nagraph.models.training.run import Run as Run
from nagraph.models.training.run import load_model as load_model
from nagraph.models.training.step import TrainState as TrainState
from nagraph.models.training.step import init_state as init_state
from nagraph.models.training.step import make_step as make_step
from nagraph.models.training.task import Task as Task

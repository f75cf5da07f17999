"""Tabular data and scikit-learn: an estimator that trains with an objective. Needs the extra `data`."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

from meseta import Threat, evaluate
from meseta.geometry import GradientNorm
from meseta.models import Mlp
from meseta.objectives import Erm, InputGradient


class RobustClassifier(ClassifierMixin, BaseEstimator):
    def __init__(self, objective=Erm(), epochs=100):
        self.objective, self.epochs = objective, epochs

    def fit(self, features, labels):
        x, (self.classes_, y) = torch.as_tensor(features).float(), np.unique(labels, return_inverse=True)
        self.model_ = Mlp().build(x.shape[1:], len(self.classes_), generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.Adam(self.model_.parameters(), 5e-3)
        for _ in range(self.epochs):
            optimizer.zero_grad()
            self.objective(self.model_, x, torch.as_tensor(y)).total.backward()
            optimizer.step()
        return self

    def predict(self, features):
        return self.classes_[self.model_(torch.as_tensor(features).float()).argmax(1)]


x, x_test, y, y_test = train_test_split(*load_breast_cancer(return_X_y=True), random_state=0)
x, x_test = (MinMaxScaler(clip=True).fit(x).transform(part) for part in (x, x_test))  # [0, 1], the threat's bounds
for objective in (Erm(), InputGradient(weight=0.1)):
    found = RobustClassifier(objective).fit(x, y)
    test = found.model_, torch.as_tensor(x_test).float(), torch.as_tensor(y_test)
    result, slope = evaluate(*test, threat=Threat("Linf", 0.05), suite="quick"), GradientNorm()(*test).value.mean()
    print(f"accuracy {found.score(x_test, y_test):.2f}, attacked {result.robust[0].worst_case:.2f}, slope {slope:.2f}")

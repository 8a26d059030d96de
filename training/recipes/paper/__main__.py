"""Print what each row of the paper's tables costs: python -m training.recipes.paper"""

from .runs import cost_table

if __name__ == "__main__":
    print(cost_table())

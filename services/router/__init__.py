"""Router: which model, which replica."""

"""Confounding experiment: does semantic noise matching help where content predicts quality?"""

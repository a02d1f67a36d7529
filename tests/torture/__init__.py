"""What a user must never lose, tried by force: python -m tests.torture --minutes 10 --seed 0"""

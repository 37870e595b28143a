"""The real process under faults and crowds for as long as one likes: is its history whole, and does it not grow?"""

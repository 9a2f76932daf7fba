"""The former place of `tools.shapes`."""
from system.command import renamed

if __name__ == '__main__':
    renamed('python -m data.shapes', 'python -m tools.shapes')

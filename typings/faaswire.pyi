from tinyfaas.child.faaswire import *

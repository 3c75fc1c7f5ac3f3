from tinyfaas.child.faascontext import *
